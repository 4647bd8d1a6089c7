SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Processes that run the tests, one more than there are cores since many wait; and the seed of their order
WORKERS ?= $(shell expr $$($(PYTHON) -c "import os; print(os.cpu_count())") + 1)
SEED ?= $(shell date +%s)
PYTEST_ARGS ?=
COVERAGE_MINIMUM := 95

# Addresses for make test-services.
POSTGRESQL_URL ?= postgres://postgres@127.0.0.1:5432/user_tasks
REDIS_URL ?= redis://127.0.0.1:6379/0
MARIADB_URL ?= mysql://root@127.0.0.1:3306/user_tasks
RABBITMQ_URL ?= amqp://guest:guest@127.0.0.1:5672//

# What make bench is told: to write the documentation, or to run all of it once (--short).
BENCH ?= --write

# Environments of tox.ini for make test-matrix; ALL for every one.
MATRIX ?= py312-django60-celery54,py313-django61-celery57

CATALOGS := $(wildcard user_tasks/locale/*/LC_MESSAGES/*.po demo/locale/*/LC_MESSAGES/*.po)
COMPILED := $(CATALOGS:.po=.mo)
TEMPLATES := $(wildcard user_tasks/templates demo/templates)
PYTEST_OPTIONS := -W error -n $(WORKERS) --random-order-bucket=module --random-order-seed=$(SEED) --timeout=300

.PHONY: help install demo test test-services test-postgresql test-mariadb test-matrix test-faults test-workflows \
	test-browser bench screenshots messages quality docs openapi build clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/installed $(COMPILED) ## Make .venv and install everything for development.

$(VENV)/created:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or later is needed, this is {sys.version}"'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml hatch_build.py
	$(PIP) install --quiet --editable . --group dev
	touch $@

$(VENV)/services: $(VENV)/installed
	$(PIP) install --quiet --group services
	touch $@

tests/node_modules/.package-lock.json: tests/package-lock.json
	npm ci --prefix tests --no-audit --no-fund --loglevel=error
	touch $@

%.mo: %.po $(VENV)/installed hatch_build.py
	$(BIN)/python hatch_build.py
	touch $@

demo: install ## Serve the demo, with a worker, until Ctrl-C.
	$(BIN)/python demo/run.py

test: install ## Run the tests on SQLite and an embedded broker, with coverage.
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_OPTIONS) -m 'not browser and not node and not services and not faults' $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='user_tasks/*' --fail-under=$(COVERAGE_MINIMUM)

test-services: test-postgresql test-mariadb ## Run the tests on PostgreSQL with Redis, and on MariaDB with RabbitMQ.

test-postgresql: install $(VENV)/services
	DATABASE_URL='$(POSTGRESQL_URL)' CELERY_BROKER_URL='$(REDIS_URL)' CELERY_RESULT_BACKEND='$(REDIS_URL)' \
		$(BIN)/python -m pytest $(PYTEST_OPTIONS) -m 'not browser and not node and not faults and not embedded' $(PYTEST_ARGS)

test-mariadb: install $(VENV)/services
	DATABASE_URL='$(MARIADB_URL)' CELERY_BROKER_URL='$(RABBITMQ_URL)' \
		$(BIN)/python -m pytest $(PYTEST_OPTIONS) -m 'not browser and not node and not faults and not embedded and not postgresql' \
		$(PYTEST_ARGS)

test-faults: install $(VENV)/services ## Kill workers, and stop servers, that the tests start themselves.
	DATABASE_URL='$(POSTGRESQL_URL)_faults' $(BIN)/python -m pytest $(PYTEST_OPTIONS) -m faults $(PYTEST_ARGS)

test-workflows: install $(VENV)/services ## Run every form of workflow on PostgreSQL with RabbitMQ too.
	DATABASE_URL='$(POSTGRESQL_URL)_workflows' CELERY_BROKER_URL='$(RABBITMQ_URL)' \
		$(BIN)/python -m pytest $(PYTEST_OPTIONS) tests/test_workflows.py -k 'each_form' $(PYTEST_ARGS)

test-matrix: install ## Run the tests on other versions of Python, Django and Celery.
	$(BIN)/tox run --quiet -e $(MATRIX) -- $(PYTEST_ARGS)

test-browser: install tests/node_modules/.package-lock.json ## Run the tests that need Chromium or Node.js.
	$(BIN)/python -m pytest -W error -n $(WORKERS) --timeout=300 -m 'browser or node' $(PYTEST_ARGS)

screenshots: install tests/node_modules/.package-lock.json ## Make pictures of all pages in build/screenshots, and the documentation's.
	SCREENSHOTS=build/screenshots $(BIN)/python -m pytest -W error --timeout=300 tests/test_browser_pages.py
	mkdir -p docs/images
	cp build/screenshots/workflow-light-1280-en.png docs/images/workflow.png
	cp build/screenshots/succeeded-dark-375-en.png docs/images/succeeded.png

$(VENV)/bench: $(VENV)/services
	$(PIP) install --quiet --group bench
	touch $@

bench: install $(VENV)/bench ## Measure what tracking costs, for the documentation (make bench BENCH=--short to try it).
	DATABASE_URL='$(POSTGRESQL_URL)_benchmarks' CELERY_BROKER_URL='$(REDIS_URL:/0=/1)' \
		$(BIN)/python -W ignore -m benchmarks $(BENCH)

messages: install ## Take new texts into the catalogs, to be translated there (needs gettext).
	for folder in user_tasks demo; do \
		(cd $$folder && ../$(BIN)/django-admin makemessages --settings=django.conf.global_settings \
			--all --no-location --no-obsolete --no-wrap); \
	done

quality: install tests/node_modules/.package-lock.json ## Check style, types, migrations, architecture, templates and packages.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd demo && ../$(BIN)/python -m mypy --config-file mypy.ini --cache-dir ../.mypy_cache/demo
	cd tests/typed_project && ../../$(BIN)/python -m mypy --config-file mypy.ini --cache-dir ../../.mypy_cache/typed_project
	tests/node_modules/.bin/pyright --project tests/typed_project --pythonpath $(BIN)/python
	$(BIN)/python -W error::DeprecationWarning manage.py makemigrations --check --dry-run
	$(BIN)/python -W error::DeprecationWarning demo/manage.py makemigrations --check --dry-run
	$(BIN)/python -m pytest -W error tests/test_architecture.py tests/test_packaging.py
ifneq ($(TEMPLATES),)
	$(BIN)/djlint --quiet --check $(TEMPLATES)
	$(BIN)/djlint --quiet --lint $(TEMPLATES)
endif
ifneq ($(wildcard docs/openapi.yaml),)
	$(BIN)/python manage.py spectacular --fail-on-warn --validate | diff -u docs/openapi.yaml - \
		|| { echo 'docs/openapi.yaml is stale: run "make openapi" and commit the result' >&2; exit 1; }
endif

openapi: install ## Write docs/openapi.yaml anew.
	$(BIN)/python manage.py spectacular --fail-on-warn --validate --file docs/openapi.yaml

docs: install ## Build the documentation and check its internal links.
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -b html docs docs/_build/html
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b linkcheck docs docs/_build/linkcheck

build: install ## Make the wheel and the sdist in dist/.
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

clean: ## Remove what the other targets made, .venv included.
	rm -rf $(VENV) tests/node_modules .tox .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.* build dist docs/_build $(COMPILED)
