// Hands over what the microphone records, a tenth of a second at a time.

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.ended = false;
    // Asked to end: what is left, and a null behind it.
    this.port.onmessage = () => {
      this.handOver();
      this.port.postMessage(null);
      this.ended = true;
    };
  }

  process(inputs) {
    const samples = inputs[0][0];
    if (samples) {
      for (const sample of samples) {
        this.piece[this.filled++] = sample;
        if (this.filled === this.piece.length) this.handOver();
      }
    }
    return !this.ended;
  }

  handOver() {
    this.port.postMessage(this.piece.slice(0, this.filled));
    this.filled = 0;
  }
}

registerProcessor("microphone", Microphone);
