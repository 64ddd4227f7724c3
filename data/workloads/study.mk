# study.mk - the study's workloads: runs of a few minutes to an hour, by hand, as root; ARGS passes options on
#   make study-murphy ARGS="--duration 300 --thp always"     (ARGS=--help lists the options)

STUDY := data/workloads
.PHONY: study-murphy study-hanlon study-policies
study-murphy: $(BINS) ## a databases course on a PostgreSQL server, collected for 20 minutes (ARGS=...)
	$(STUDY)/deps install murphy
	$(STUDY)/murphy --collector $(B)/bin/dscollect $(ARGS)

study-hanlon: $(BINS) ## an introductory systems course, collected for 20 minutes (ARGS=...)
	$(STUDY)/deps install hanlon
	$(STUDY)/hanlon --collector $(B)/bin/dscollect $(ARGS)

study-policies: $(BINS) ## both under every huge page policy and free-list age, into out/policies
	$(STUDY)/deps install
	$(STUDY)/policies --collector $(B)/bin/dscollect $(ARGS)
