# sightflow: `make demo` shows the whole product at work, `make test` proves it. Both install what they need into .local.
SHELL := /bin/bash
PYTHON ?= python3
LOCAL := $(or $(SIGHTFLOW_LOCAL),.local)
BIN := $(LOCAL)/venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint unit integration up down bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## install everything into .local; a second run finds it done
	@$(PYTHON) -m sightflow.bootstrap

demo: setup ## everything at work on real footage, and what came out
	@$(BIN)/sightflow demo

test: setup ## lint, types, unit tests, then integration tests against the real servers
	@$(MAKE) --no-print-directory lint unit integration

lint: ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: ## tests that need no server
	$(BIN)/pytest -m "not integration"

integration: ## tests against real Kafka, InfluxDB, Flink and RTSP
	$(BIN)/pytest -m integration

up: setup ## start Kafka, InfluxDB and Flink, and leave them running
	@$(BIN)/sightflow up

down: ## stop them
	@$(BIN)/sightflow down

bench: setup ## measure; see bench/README.md
	@$(BIN)/python -m bench

clean: ## stop the stack and delete its data; what is installed stays (delete .local to remove that too)
	@if [ -x $(BIN)/sightflow ]; then $(BIN)/sightflow down --wipe; fi
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
