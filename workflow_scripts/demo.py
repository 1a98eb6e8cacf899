"""Serve a page on this machine to try exported models on: speak, or drop a recording."""

import argparse
import socket

from transducer2ncnn.base import errors
from transducer2ncnn.base.errors import UserError

#: The loopback: nobody else's machine can reach it.
HOST = "127.0.0.1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", default="results", help="folder that models were exported to")
    parser.add_argument("--port", type=int, default=8360, help="0 for any that is free")
    args = parser.parse_args()

    # Here, since each process that recognises something imports this module too.
    import uvicorn

    from transducer2ncnn.demo import app, delivered

    demo = app.Demo(delivered.models(args.results))
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, args.port))
            listening.listen()
        except (OSError, OverflowError) as e:
            raise UserError(
                f"port {args.port} of {HOST}: {str(e).rstrip('.')}. Choose another with --port."
            ) from None
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            demo.app(),
            ws="wsproto",
            ws_max_size=app.MAX_FILE,
            lifespan="off",
            log_level="warning",
            server_header=False,
        )
        print(
            f"Open http://{HOST}:{port}/ in a browser on this machine. Ctrl-C ends it.", flush=True
        )
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    errors.run(main)
