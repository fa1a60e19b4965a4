# All commands of the project. `make demo` and `make test` work on a fresh machine.
.PHONY: setup demo test check ui screenshots lock test-science test-orchestration test-pages test-ui acceptance

BIN := .venv/bin
export DG_CLI_CONFIG := $(CURDIR)/.ci/dg.toml
# Without compiled modules on disk each of many processes compiles its own, which takes longer than its work.
unexport PYTHONDONTWRITEBYTECODE
PAGES := $(addprefix ecg_pipeline_tests/orchestration/,test_howto.py test_own_family.py)
STUDIES := $(basename $(notdir $(wildcard ecg_pipeline/studies/*.yaml)))

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	test -d .venv || python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/ecg-pipeline demo

# Side by side, the longest first, so that two cores end at the same time.
ifneq (,$(filter test,$(MAKECMDGOALS)))
MAKEFLAGS += --jobs=2 --output-sync
endif
test: test-orchestration test-science test-pages

test-science: setup
	$(BIN)/pytest -m "not acceptance" --ignore ecg_pipeline_tests/orchestration --ignore ecg_pipeline_tests/test_ui.py

test-orchestration: setup
	$(BIN)/pytest -m "not acceptance" ecg_pipeline_tests/orchestration ecg_pipeline_tests/test_ui.py $(PAGES:%=--ignore %)

# The pages of docs/howto, followed to the letter.
test-pages: setup
	$(BIN)/pytest $(PAGES)

# A backfill of all assets in a running UI, checked in a browser.
test-ui: setup
	$(BIN)/pytest ecg_pipeline_tests/orchestration/test_backfill.py ecg_pipeline_tests/orchestration/test_browser.py

acceptance: setup
	$(BIN)/pytest -m acceptance

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	for study in $(STUDIES); do ECG_STUDY=$$study $(BIN)/dg check defs --use-active-venv || exit 1; done

ui: setup
	$(BIN)/ecg-pipeline ui

# The pictures of docs/ui.md, from the tests that read those pages.
screenshots: setup
	ECG_SCREENSHOTS=$(CURDIR)/docs/images $(BIN)/pytest ecg_pipeline_tests/orchestration/test_browser.py

lock: setup
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --quiet --no-emit-project --no-header --format requirements-txt --output-file requirements.lock
