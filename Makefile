# `make` alone lists the targets. Everything that is fetched or built stays in ignored folders of this checkout.

.DEFAULT_GOAL := help
PYTHON ?= python3
CARGO ?= cargo

.PHONY: help setup demo run test check bench bench-engine clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Fetch ONNX Runtime (pinned, hash checked) into .onnxruntime
	@$(PYTHON) scripts/setup.py

demo: setup ## Index this project's documents, serve, search, rerank; show the metrics and a trace
	$(CARGO) build --release --locked
	@$(PYTHON) scripts/demo.py

run: setup ## Run the server on .amalfa/amalfa.db (ARGS="…" for flags)
	$(CARGO) run --release --locked -- serve $(ARGS)

test: setup ## Run every test
	$(CARGO) test --locked

check: setup ## Formatting, lints, docs, dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; else echo "skipped: cargo-deny is not installed (cargo install cargo-deny)"; fi

bench: setup ## Measure search and ingest against the bare model; writes target/bench
	$(CARGO) build --release --locked
	target/release/amalfa bench overhead --output target/bench/overhead.json

bench-engine: setup ## Measure the engine against its peers (AMALFA_BENCH_VECTORS=file, see docs/engine-bench.md)
	bench-engine/run

clean: ## Remove what was built and fetched, and the demo's database; other databases stay
	$(CARGO) clean
	rm -rf .onnxruntime .amalfa/demo
