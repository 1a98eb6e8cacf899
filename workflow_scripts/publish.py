"""Publish an archive to the Hugging Face Hub, if all that was to pass has passed."""

import argparse
import json
from pathlib import Path

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.base.fingerprints import fingerprint
from transducer2ncnn.release import archive, contents, gates, upload
from transducer2ncnn.report import artifacts
from transducer2ncnn.workflow import provenance
from workflow_scripts.release_arguments import add_release


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_release(parser)
    parser.add_argument("--quantized", nargs="*", default=[], help="which precisions are")
    parser.add_argument("--max-rise", default={}, type=json.loads, help="points by precision")
    parser.add_argument("--archive", required=True, type=Path)
    parser.add_argument("--repo-id", required=True)
    parser.add_argument("--revision", required=True, help="a branch")
    parser.add_argument("--public", action="store_true", help="whether others may read it")
    parser.add_argument("--output", required=True, type=Path, help="published.json")
    args = parser.parse_args()

    checked = gates.Checked(
        precisions=args.precisions,
        verification=artifacts.by_precision(args.verification),
        headroom=reading.read_json(args.headroom),
        quantized=args.quantized,
        targets=artifacts.by_processor(args.targets),
        evaluation=artifacts.by_precision(args.evaluation),
        max_rise=args.max_rise,
    )
    gates.check(checked)
    differences = list(provenance.differences(args.manifest.parent))
    if differences:
        raise errors.UserError(
            "not published, for what is there is not what was delivered: "
            f"{'; '.join(differences)}. Delete what differs, and run again."
        )
    title = args.archive.name.removesuffix(archive.ENDING)
    target = upload.Target(args.repo_id, args.revision, not args.public)
    with files.scratch(args.output.parent) as folder:
        held = archive.unpack(args.archive, folder)
        check_models(args, held)
        published = upload.publish(target, held, f"{title}: {', '.join(args.precisions)}")
        address = published.address(args.repo_id)
        record = {
            "repo_id": args.repo_id,
            "revision": args.revision,
            "commit": published.commit,
            "address": address,
            "sent": published.sent,
            "removed": published.removed,
            "archive": args.archive.name,
            "files": {name: fingerprint(path) for name, path in sorted(held.items())},
        }
    files.write_json(args.output, record)
    print(f"{title} is published: {address}")


def check_models(args: argparse.Namespace, held: dict[str, Path]) -> None:
    """Refuse an archive whose models are not those that the manifest states."""
    manifest = reading.read_json(args.manifest)
    for name, path in contents.together(manifest, args.precisions).items():
        if name not in held or fingerprint(held[name]) != manifest["delivered"][path]:
            raise errors.UserError(
                f"{args.archive}: not published, for its {name} is not the {path} that the "
                f"manifest states. {reading.REMAKE}"
            )


if __name__ == "__main__":
    errors.run(main)
