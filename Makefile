# Everything below does its own set-up; `make help` lists the targets.
SHELL := /bin/bash
PYTHON := .venv/bin/python
SOURCES := cni_plugins cnictl bandwidth bridge dhcp_daemon dhcp_ipam dummy firewall flannel forkserver host_device host_local_ipam ipvlan loopback macvlan portmap ptp sbr static_ipam tap tuning vlan vrf tests bench

.PHONY: help setup setup-run build demo test check lint format bench install clean

help:    ## list the targets
	@sed -n 's/^\([a-z]*\): .*## /  make \1  \t/p; s/^\([a-z]*\):  *## /  make \1  \t/p' Makefile

setup:   ## install the Debian and Python packages that tests need (as root; starts no daemon)
	@tools/setup dev

setup-run:
	@tools/setup run

build: setup-run ## make dist/bin: the executables and their bundle
	@tools/build

demo: build ## pods of a throw-away host talk, publish, are limited and guarded (as root)
	@tools/private tools/demo

test: setup build lint ## run every tier of the tests (as root)
	@tools/private $(PYTHON) tools/run-tests

check: setup lint ## what needs no root and no build: lint and the unit tests
	@$(PYTHON) -m pytest -q tests/unit tests/test_repo.py

lint: setup ## ruff and mypy
	@$(PYTHON) -m ruff check --quiet $(SOURCES)
	@$(PYTHON) -m ruff format --quiet --check $(SOURCES)
	@$(PYTHON) -m mypy --no-error-summary $(SOURCES)

format: setup ## rewrite the sources as ruff wants them
	@$(PYTHON) -m ruff check --quiet --fix-only $(SOURCES)
	@$(PYTHON) -m ruff format --quiet $(SOURCES)

bench: setup build ## measure beside the Debian package's plugins (as root); REF=DIR for others
	@tools/private $(PYTHON) -m bench $(if $(REF),--reference $(REF)) $(BENCH)

clean:   ## remove what was built and installed here
	rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache
