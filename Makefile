# The two set-up commands are "make demo" and "make test". Everything else here
# is what they are made of.

GO      ?= go
BUILD   := build
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
SOMBRA  := $(BUILD)/sombra

# Where there is no HOME, as in some services and containers, that of the user.
ifeq ($(HOME),)
export HOME := $(shell getent passwd "$$(id -u)" | cut -d: -f6)
endif

.PHONY: all build demo test torture bench fuzz cross lint deps clean man

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(SOMBRA) ./cmd/sombra

# demo does the main job for real: a database under constant writes and a file
# tree, backed up at one instant, damaged, and restored.
demo: build
	$(SOMBRA) demo

# deps installs what the tests need from Debian's or Ubuntu's packages.
deps:
	scripts/install-test-deps

test: deps
	scripts/test

# torture runs whole what "make test" runs at a tenth. It takes hours.
torture: deps
	scripts/torture

# bench prints every figure the documents give.
bench: deps build
	scripts/bench

fuzz:
	scripts/fuzz

# cross builds every release, and for Windows the packages that can run there.
cross:
	scripts/cross

lint:
	scripts/lint

man: build
	$(SOMBRA) generate man $(BUILD)/man

clean:
	rm -rf $(BUILD)
