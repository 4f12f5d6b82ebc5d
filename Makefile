# Everything a newcomer needs: `make demo` and `make test` set up what they use, inside this folder.
# uv is taken from the PATH, or installed into .uv when there is none.

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --frozen

.PHONY: demo test slow browser lint types contracts docs bench clean

demo: $(UV)            ## deploy, schedule and run a real pipeline on real data, and watch it
	$(RUN) --group demo python examples/flights/demo.py

test: $(UV)            ## the default tests, on SQLite and on PostgreSQL
	$(RUN) pytest -n 2 -q

slow: $(UV)            ## kill torture and other slow suites
	$(RUN) pytest -q -m slow

browser:               ## the Chromium that one of the slow tests visits a hostile page with, from Debian's packages
	command -v chromium >/dev/null || \
	(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium)

lint: $(UV)
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(UV)
	$(RUN) mypy

contracts: $(UV)       ## who may import whom
	$(RUN) lint-imports

docs: $(UV)            ## build the site into site/
	$(RUN) --group docs mkdocs build --strict --quiet

bench: $(UV)           ## headrace beside Prefect, in one run; writes benchmarks/RESULTS.md
	$(RUN) python -m benchmarks

clean:
	rm -rf .venv .uv site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv
