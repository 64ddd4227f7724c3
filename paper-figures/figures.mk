# figures.mk - the paper's figures and numbers beside ours, redrawn from data/ alone
#   make paper-figures                    (DATA=folder: other results than the committed ones; OUT=folder: to elsewhere)

.PHONY: paper-figures
paper-figures: $(B)/bin/dsreport ## redraw the paper's figures and table from data/ into paper-figures/
	@paper-figures/draw --report $(B)/bin/dsreport $(if $(DATA),--data $(DATA)) $(if $(OUT),--out $(OUT))
