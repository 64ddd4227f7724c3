# Dark Shadows.  `make run` shows the study on this machine, `make check` tests everything, `make help` lists the rest.
#
# Folders are found, not listed: every collector/*.c belongs to dscollect, every analysis/*.c to dsreport, every
# tests/unit/*.c, tests/kernel/*.c and tests/fuzz/*.c is a program of its own.  Flavours (SAN=asan, SAN=tsan) build
# beside the plain one in build/asan and build/tsan.

VERSION := 0.1.0
SAN ?=
B ?= build$(if $(SAN),/$(SAN))
PREFIX ?= /usr
DESTDIR ?=

CC := gcc
WARN := -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wmissing-prototypes -Wstrict-prototypes -Werror
SANFLAGS_asan := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1
SANFLAGS_tsan := -fsanitize=thread -O1
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
TOOLS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/tools/*.c tests/bench/*.c))
CLI := $(wildcard tests/cli/*.sh)
BINS := $(B)/bin/dscollect $(B)/bin/dsreport

.PHONY: all run check test bench-study fuzz install uninstall clean help deps deps-check
all: $(BINS) ## build the programs into build/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

# --- programs -----------------------------------------------------------------------------------------------------
$(B)/lib/rle.a: $(call obj,$(RLE))
$(B)/lib/collector.a: $(call obj,$(COLLECTOR))
$(B)/lib/analysis.a: $(call obj,$(ANALYSIS))
$(B)/lib/%.a:
	@mkdir -p $(@D) && rm -f $@
	$(AR) rcs $@ $^

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

LINK = @mkdir -p $(@D) && echo '$(CC) -o $@' && $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^)
$(B)/bin/dscollect: $(B)/obj/collector/dscollect.o $(B)/lib/collector.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_collector)
$(B)/bin/dsreport: $(B)/obj/analysis/dsreport.o $(B)/lib/analysis.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_analysis)

# Text files that travel inside a program (asm .incbin): the schema, the gnuplot sources.
$(B)/obj/collector/schema.o: collector/schema.sql
$(B)/obj/analysis/plots.o: $(wildcard plots/*)

# --- tests --------------------------------------------------------------------------------------------------------
TESTLIBS := $(B)/lib/collector.a $(B)/lib/analysis.a $(B)/lib/rle.a
$(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/replay.o $(TESTLIBS)
	$(LINK) $(LDLIBS_collector) -lm
$(B)/tests/%: $(B)/obj/tests/%.o $(TESTLIBS)
	$(LINK) $(LDLIBS_collector) -lm

tests-build: $(BINS) $(UNIT) $(KERNEL) $(FUZZ) $(TOOLS)
colon = $(subst $() ,:,$(strip $(1)))

test: tests-build ## run the tests of the plain build, without installing anything
	tests/run $(B)=$(B)/bin:$(call colon,$(UNIT) $(KERNEL) $(FUZZ) $(CLI))

clean: ## remove what was built
	rm -rf build out

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
.SECONDARY:
.DELETE_ON_ERROR:
