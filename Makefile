# Dark Shadows.  `make run` shows the study on this machine, `make check` tests everything, `make help` lists the rest.
#
# Folders are found, not listed: every collector/*.c belongs to dscollect, every analysis/*.c to dsreport, every
# tests/unit/*.c, tests/kernel/*.c and tests/fuzz/*.c is a program of its own.  Flavours (SAN=asan, SAN=tsan) build
# beside the plain one in build/asan and build/tsan.  Needs Debian's packages: tests/deps lists them.

VERSION := 0.1.0
SAN ?=
B ?= build$(if $(SAN),/$(SAN))
PREFIX ?= /usr
DESTDIR ?=

CC := gcc
WARN := -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wmissing-prototypes -Wstrict-prototypes -Werror
SANFLAGS_asan := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1
SANFLAGS_tsan := -fsanitize=thread -O1 -Wno-tsan # it does not model fences; nothing with threads has one
CFLAGS ?= -O2 -g
ALL_CFLAGS := -std=gnu11 $(CFLAGS) $(SANFLAGS_$(SAN)) $(WARN) -fvisibility=hidden -D_GNU_SOURCE -DDS_VERSION='"$(VERSION)"' -I. -MMD -MP
LDLIBS_rle := -lxxhash
LDLIBS_collector := $(LDLIBS_rle) -lsqlite3 -ljson-c
LDLIBS_analysis := $(LDLIBS_rle) -lsqlite3 -ljson-c -lm

# --- what is where ------------------------------------------------------------------------------------------------
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
RLE := $(wildcard rle/*.c)
COLLECTOR := $(filter-out collector/dscollect.c,$(wildcard collector/*.c))
ANALYSIS := $(filter-out analysis/dsreport.c,$(wildcard analysis/*.c))
UNIT := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/unit/*.c))
KERNEL := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/kernel/*.c))
FUZZ := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(filter-out tests/fuzz/replay.c,$(wildcard tests/fuzz/*.c)))
TOOLS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/tools/*.c $(if $(SAN),,tests/bench/*.c tests/vm/*.c)))
CLI := $(wildcard tests/cli/*.sh)
VM := $(wildcard tests/vm/*.sh)
BINS := $(B)/bin/dscollect $(B)/bin/dsreport

.PHONY: all run check test bench-study bench-peers fuzz fuzz-compiler tests-build tsan-build man install uninstall clean help deps
all: $(BINS) ## build the programs into build/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(filter Makefile %.mk,$(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

# V=1 shows whole commands.  Recursive makes use every core unless somebody said otherwise.
SAY = $(if $(V),,@echo "  $(1) $(2)";)
PAR = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

# --- the two commands ---------------------------------------------------------------------------------------------
run: ## as root: install what is missing, build, take 20 snapshots of this machine, print the report, write out/report.html; then the demo
	@[ "$$(id -u)" = 0 ] || { echo "make run reads the page table of every process, which the kernel shows to root only: sudo make run"; exit 2; }
	@tests/deps run
	@$(MAKE) $(PAR) --no-print-directory all man
	@collector/packaging/run-study $(B)/bin out
	@echo
	@tests/deps demo || echo "So the demo may be skipped."
	@$(MAKE) --no-print-directory demo

check: ## install what is missing, build plain and with sanitizers, run every test
	@tests/deps check
	@data/workloads/deps install || echo "So the tests of the study's workloads will be skipped."
	@$(MAKE) $(PAR) --no-print-directory B=$(B) tests-build man
	@$(MAKE) $(PAR) --no-print-directory B=$(B)/asan SAN=asan tests-build
	@$(MAKE) $(PAR) --no-print-directory B=$(B)/tsan SAN=tsan tsan-build
	@$(SANRUN) tests/run plain=$(B)/bin:$(call colon,$(UNIT) $(KERNEL) $(FUZZ) $(CLI) $(VM)) \
		asan=$(B)/asan/bin:$(call colon,$(call built,asan,$(ASAN_C)) $(ASAN_CLI)) \
		tsan=$(B)/tsan/bin:$(call colon,$(call built,tsan,$(TSAN_C)) $(TSAN_CLI))

deps: ## install the Debian packages that building and testing need
	tests/deps check

# --- programs -----------------------------------------------------------------------------------------------------
$(B)/lib/rle.a: $(call obj,$(RLE))
$(B)/lib/collector.a: $(call obj,$(COLLECTOR))
$(B)/lib/analysis.a: $(call obj,$(ANALYSIS))
$(B)/lib/%.a:
	@mkdir -p $(@D) && rm -f $@
	@$(AR) rcs $@ $^

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call SAY,CC,$<)$(CC) $(ALL_CFLAGS) -c -o $@ $<

LINK = $(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^)
$(B)/bin/dscollect: $(B)/obj/collector/dscollect.o $(B)/lib/collector.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_collector)
$(B)/bin/dsreport: $(B)/obj/analysis/dsreport.o $(B)/lib/analysis.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_analysis)

# Text files that travel inside a program (asm .incbin): the schema, the gnuplot sources.
$(B)/obj/collector/schema.o: collector/schema.sql
$(B)/obj/analysis/plots.o: $(wildcard plots/*)

# --- tests --------------------------------------------------------------------------------------------------------
TESTLIBS := $(B)/lib/collector.a $(B)/lib/analysis.a $(B)/lib/rle.a
include runtime/shadow.mk
include runtime/guest.mk
include runtime/host.mk
include runtime/runtime.mk
include runtime/intercept.mk
include runtime/container.mk
include runtime/device.mk
ifeq ($(SAN),tsan)
TESTLIBS := $(B)/lib/collector.a $(B)/lib/rle.a # what else has threads is not tested with it
endif
$(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/replay.o $(TESTLIBS)
	$(LINK) $(LDLIBS_collector) -lm
$(B)/tests/%: $(B)/obj/tests/%.o $(TESTLIBS)
	$(LINK) $(LDLIBS_collector) -lm
# Processes that tests look at from outside: plain in every flavour, as a sanitizer would change their page tables.
$(B)/tests/tools/%: tests/tools/%.c
	$(call SAY,TOOL,$@)mkdir -p $(@D) && $(CC) -std=gnu11 $(CFLAGS) $(WARN) -D_GNU_SOURCE -I. -o $@ $< -lm

tests-build: $(BINS) $(UNIT) $(KERNEL) $(FUZZ) $(TOOLS)
colon = $(subst $() ,:,$(strip $(1)))

# Unit tests and fuzz replays also run with ASan and UBSan.  Any other test that is to run under a sanitizer says so
# in a line of its own at its head, with the flavours beyond the plain one: "# flavours: asan tsan".
said = $(if $(2),$(shell grep -lE '^(#| \*|//) flavours:.* $(1)( |$$)' $(2)))
built = $(patsubst tests/%.c,$(B)/$(1)/tests/%,$(2))
TEST_C := $(wildcard tests/unit/*.c tests/kernel/*.c)
ASAN_C = $(wildcard tests/unit/*.c) $(filter-out tests/fuzz/replay.c,$(wildcard tests/fuzz/*.c)) $(call said,asan,$(wildcard tests/kernel/*.c))
TSAN_C = $(call said,tsan,$(TEST_C))
ASAN_CLI = $(call said,asan,$(CLI))
TSAN_CLI = $(call said,tsan,$(CLI))
# With the thread sanitizer: no more than what its tests run.
tsan-build: $(B)/bin/dscollect $(filter $(B)/tests/tools/collect_%,$(TOOLS)) $(patsubst tests/%.c,$(B)/tests/%,$(TSAN_C))

# The sanitizers of gcc 12 cannot place their shadow where the kernel randomises more than 28 bits of an address.
SANRUN = $(shell [ $$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28) -gt 28 ] && setarch -R true 2>/dev/null && echo setarch -R)

test: tests-build man ## run the tests of the plain build, without installing anything
	tests/run $(B)=$(B)/bin:$(call colon,$(UNIT) $(KERNEL) $(FUZZ) $(CLI) $(VM))

# --- measuring ----------------------------------------------------------------------------------------------------
bench-study: tests-build ## what reading page tables costs, as ratios to bare loops and to page-types (minutes; as root)
	B=$(B) tests/bench/study

bench-peers: tests-build ## dscollect beside page-types, thpmaps, smem and pmap, on processes and on both workloads (half an hour; as root)
	B=$(B) tests/bench/peers-study

# --- fuzzing ------------------------------------------------------------------------------------------------------
# Every tests/fuzz/NAME.c with libFuzzer, from its committed corpus.  New inputs gather in $(B)/fuzz/NAME.corpus, one that
# finds a fault becomes $(B)/fuzz/NAME-crash-*: copied into tests/fuzz/corpus/NAME it is a test from then on.
FUZZ_SECONDS ?= 30
FUZZ_NAMES := $(basename $(notdir $(FUZZ)))
FUZZ_SAN := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_LIB := $(patsubst %.c,$(B)/obj/fuzz/%.o,$(RLE) $(COLLECTOR) $(ANALYSIS))
$(B)/obj/fuzz/collector/schema.o: collector/schema.sql
$(B)/obj/fuzz/analysis/plots.o: $(wildcard plots/*)
$(B)/obj/fuzz/%.o: %.c | fuzz-compiler
	@mkdir -p $(@D)
	$(call SAY,CLANG,$<)clang $(filter-out -Werror,$(ALL_CFLAGS)) -O1 $(FUZZ_SAN) -fsanitize=fuzzer-no-link -c -o $@ $<
$(B)/fuzz/%: $(B)/obj/fuzz/tests/fuzz/%.o $(FUZZ_LIB)
	$(call SAY,LINK,$@)mkdir -p $(@D) && clang $(FUZZ_SAN) -fsanitize=fuzzer -o $@ $^ $(LDLIBS_collector) -lm

fuzz-compiler:
	@command -v clang >/dev/null || { echo "fuzzing needs clang with its runtime: apt-get install clang libclang-rt-dev"; exit 2; }

fuzz: $(FUZZ_NAMES:%=$(B)/fuzz/%) ## fuzz every target for FUZZ_SECONDS=30, with clang
	@for name in $(FUZZ_NAMES); do \
		mkdir -p $(B)/fuzz/$$name.corpus; \
		echo "fuzz $$name, $(FUZZ_SECONDS) s"; \
		$(B)/fuzz/$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
			-artifact_prefix=$(B)/fuzz/$$name- $(B)/fuzz/$$name.corpus tests/fuzz/corpus/$$name >$(B)/fuzz/$$name.log 2>&1 \
			|| { tail -40 $(B)/fuzz/$$name.log; echo "fuzz $$name found a fault; all of it in $(B)/fuzz/$$name.log"; exit 1; }; \
		grep -E 'DONE|number_of_executed_units' $(B)/fuzz/$$name.log; \
	done

# --- man pages and installation -----------------------------------------------------------------------------------
MAN := $(patsubst %.scd,$(B)/man/%,$(notdir $(wildcard collector/*.scd analysis/*.scd runtime/*/*.scd runtime/*/*/*.scd)))
man: $(MAN)
	@:
vpath %.scd $(sort $(dir $(wildcard collector/*.scd analysis/*.scd runtime/*/*.scd runtime/*/*/*.scd)))
$(B)/man/%: %.scd
	$(call SAY,MAN,$<)mkdir -p $(@D) && scdoc <$< >$@

install: all man ## programs, systemd timer (or cron), configuration, man pages; PREFIX=/usr DESTDIR=
	@B=$(B) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) collector/packaging/install install

uninstall: ## the reverse; keeps the data and what you edited in /etc
	@B=$(B) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) collector/packaging/install uninstall

include data/workloads/study.mk
include paper-figures/figures.mk

clean: ## remove what was built
	rm -rf build out

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
.SUFFIXES: # none of make's own rules, which would make a program NAME of every NAME.sh
.SECONDARY:
.DELETE_ON_ERROR:
