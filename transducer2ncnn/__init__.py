"""Export icefall's streaming transducers to ncnn, for sherpa-ncnn."""
