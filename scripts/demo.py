#!/usr/bin/env python3
"""The main job on real input: index documents, serve, search and rerank over gRPC, and show what the telemetry says.

Needs the release build and ONNX Runtime (`make demo` sees to both). Ends by itself; leaves its database in .amalfa/demo.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

BINARY = os.path.join("target", "release", "amalfa")
DATABASE = os.path.join(".amalfa", "demo", "amalfa.db")
# Real documents of this checkout; more can be named on the command line.
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "models"]
QUERY = "where does the time of a request go"
RERANK_QUERY = "what happens to vectors that have no direction"
# Families whose change is shown.
METRICS = re.compile(r"^(rpc_server_call_duration_seconds_(count|sum)|amalfa_stage_duration_seconds_(count|sum)|"
                     r"db_client_operation_duration_seconds_count|amalfa_engine_vectors|process_resident_memory_bytes|"
                     r"amalfa_jemalloc_allocated_bytes)")
START_SECONDS = 60


def main():
    started = time.monotonic()
    step("Ingest: markdown to a searchable index")
    run("ingest", *[path for path in DOCUMENTS + sys.argv[1:] if os.path.exists(path)])

    traces_port, grpc_port, admin_port = free_ports(3)
    server, admin = f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{admin_port}"
    traces = start("traces", "--listen", f"127.0.0.1:{traces_port}", stdout=subprocess.PIPE)
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{traces_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    serve = start("serve", "--listen", server, "--admin-listen", f"127.0.0.1:{admin_port}", environment=telemetry)
    try:
        wait_ready(serve, f"{admin}/readyz")
        before = metrics(admin)
        step(f"Search over gRPC: «{QUERY}»")
        run("search", "--server", server, "--limit", "3", QUERY)
        step(f"The same, reranked by late interaction, with an account of each place")
        run("search", "--server", server, "--limit", "3", "--rerank", "late_interaction", "--explain", QUERY)
        step(f"Rerank over gRPC: «{RERANK_QUERY}»")
        run("rerank", "--server", server, RERANK_QUERY,
            "--document", "A vector whose norm is at most 1e-6 cannot be searched; it is counted.",
            "--document", "The server listens on loopback unless told otherwise.",
            "--document", "Zero vectors are left out of the index.")
        step("The metrics that those requests moved")
        show_changes(before, metrics(admin))
    finally:
        stop(serve)
        trees = stop(traces)
    step("The trace of the reranked search, as the OTLP receiver got it")
    show_trace(trees)
    print(f"\ndone in {time.monotonic() - started:.1f} s. Next: make run, then the README's grpcurl session.")


def step(text):
    print(f"\n── {text}", flush=True)


def command(*arguments):
    return [BINARY, "--db", DATABASE, *arguments]


def run(*arguments):
    subprocess.run(command(*arguments), check=True, env=dict(os.environ, AMALFA_TELEMETRY_LOG_FILTER="warn"))


def start(*arguments, stdout=None, environment=None):
    variables = dict(os.environ, AMALFA_TELEMETRY_LOG_FILTER="warn", **(environment or {}))
    return subprocess.Popen(command(*arguments), stdout=stdout, text=True, env=variables)


def stop(process):
    """Asks a process to stop and returns what it printed."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.communicate(timeout=20)[0] or ""
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0] or ""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.read().decode()


def wait_ready(process, url):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit("the server ended before it was ready; its message is above")
        try:
            fetch(url)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"the server was not ready after {START_SECONDS} s")


def metrics(admin):
    lines = (line.rsplit(" ", 1) for line in fetch(f"{admin}/metrics").splitlines() if METRICS.match(line))
    return {name: float(value) for name, value in lines}


def show_changes(before, after):
    for name, value in sorted(after.items()):
        change = value - before.get(name, 0)
        if name.endswith("_bytes"):
            print(f"  {name} {value / 2**20:.1f} MiB")
        elif change and ("_count" in name or "_sum" in name):
            print(f"  {name} +{change:.6g}")
        elif not name.startswith(("rpc", "db", "amalfa_stage")):
            print(f"  {name} {value:.6g}")


def show_trace(text):
    trees = [tree for tree in text.split("\n\n") if "rerank" in tree and "retrieve" in tree]
    if not trees:
        sys.exit("no trace of the search arrived at the receiver")
    print(max(trees, key=len))


if __name__ == "__main__":
    main()
