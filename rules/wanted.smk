# What the configuration asks for: the artifacts of each model, and what must hold for them.


def artifacts_of(name):
    """Everything that the configuration asks for of one model."""
    model = CONFIG.models[name]
    wanted = checked_audio(name) + [traced(part) for part in PARTS]
    wanted += ["results/{model}/model.json", "results/{model}/verification/reference.npz"]
    for precision in CONFIG.precisions_of(name):
        wanted += networks_of(precision)
        for part, recipe in RECIPES[precision].quantized_parts.items():
            if recipe.has_table:
                wanted.append(scale_table(part, precision))
        if precision in SEARCHED:
            wanted += searched(precision)
        wanted.append(f"results/{{model}}/verification/{precision}.json")
        wanted += delivered(precision)
        if model.test_wavs:
            wanted.append(f"results/{{model}}/transcripts/{precision}.tsv")
    wanted += [f"results/{{model}}/verification/target-{cpu}.json" for cpu in CONFIG.targets]
    if model.evaluation:
        wanted.append("results/{model}/evaluation/table.tsv")
    for files in reported(name).values():
        wanted += [files] if isinstance(files, str) else files
    wanted.append("results/{model}/report.html")
    return list(dict.fromkeys(expand(wanted, model=name)))


def reported(name):
    """What a model's report is made of, by make_report's options; not all models have all."""
    precisions = CONFIG.precisions_of(name)
    files = {"manifest": "results/{model}/manifest.json"}
    files["verification"] = [f"results/{{model}}/verification/{p}.json" for p in precisions]
    if CONFIG.targets:
        files["targets"] = [
            f"results/{{model}}/verification/target-{x}.json" for x in CONFIG.targets
        ]
    files["headroom"] = "results/{model}/verification/headroom.json"
    if quantized := [p for p in precisions if RECIPES[p].quantized_parts]:
        files["quantization"] = [f"results/{{model}}/quantization/{p}.json" for p in quantized]
    if found := [p for p in precisions if p in SEARCHED]:
        files["searches"] = [f"results/{{model}}/search/{p}.json" for p in found]
    if CONFIG.models[name].evaluation:
        folder = "results/{model}/evaluation"
        files["evaluation"] = [f"{folder}/{p}.json" for p in precisions]
        files["comparison"] = f"{folder}/comparison.json"
        files["speed"] = f"{folder}/speed.json"
        files["recordings"] = f"{folder}/manifest.jsonl"
    return files


def all_delivered(name):
    """The files of a model's folders for sherpa-ncnn, in all its precisions, with {model} in them."""
    precisions = CONFIG.precisions_of(name)
    return [f for precision in precisions for f in delivered(precision)]


def folders():
    """Folders that can be asked for, with input functions: the files that they stand for."""

    def of_model(name):
        return lambda wildcards: artifacts_of(name)

    def of_precision(name, precision):
        return lambda wildcards: checked_audio(name) + expand(delivered(precision), model=name)

    for name in CONFIG.models:
        yield f"results/{name}", of_model(name)
        for precision in PRECISIONS:
            yield f"results/{name}/sherpa-ncnn/{precision}", of_precision(name, precision)


def gate(wildcards):
    """The evaluation that a model must pass to be delivered, if there is one."""
    gated = model_of(wildcards).evaluation and wildcards.precision in CONFIG.evaluation.max_rise
    return f"results/{wildcards.model}/evaluation/{wildcards.precision}.json" if gated else []


def allowed_rises(name, precisions):
    """By how much error rates may rise, of those precisions that have a limit."""
    if not CONFIG.models[name].evaluation:
        return {}
    return {p: x for p, x in CONFIG.evaluation.max_rise.items() if p in precisions}


def evaluations(wildcards):
    """The evaluation of each precision of a model, if it is evaluated."""
    if not model_of(wildcards).evaluation:
        return []
    return of_every_precision("results/{model}/evaluation/{precision}.json")(wildcards)


def max_rise(wildcards, input):
    """What the script that delivers is told of that gate."""
    if not input.evaluation:
        return ""
    limit = CONFIG.evaluation.max_rise[wildcards.precision]
    return f"--gate {shlex.quote(input.evaluation)} {limit}"


def configuration_of(name):
    """What of the configuration a model is made with."""
    # As stated: a pattern may stand for more recordings than a command can name.
    stated = STATED["models"][name]
    wavs = {key: stated[key] for key in ("test_wavs", "calibration_wavs") if key in stated}
    precisions = {}
    for precision in CONFIG.precisions_of(name):
        # Less the number of jobs, which changes nothing.
        chosen = PRECISIONS[precision].model_dump(exclude={"shards"}, exclude_none=True)
        parts = {part: asdict(x) for part, x in recipe_of(name, precision).items()}
        if precision not in SEARCHED:
            chosen["stored"] = parts_of(precision) | parts
        precisions[precision] = chosen
    return {
        "model": CONFIG.models[name].model_dump(exclude={"release"}) | wavs,
        "precisions": precisions,
        "verification": CONFIG.verification.model_dump(),
    }
