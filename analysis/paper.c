/* paper.c - what the paper measured (see paper.h) */
#include "analysis/paper.h"

const struct paper_machine paper_machine[PAPER_NMACHINES] = {
	{
		.name = "Murphy",
		.what = "Dell R410, 128 GB, Red Hat 6.7 (2.6.32), Oracle 11g, a databases course of 50 students",
		.samples_over = 770000,
		.runs_p95 = 5430,
		.runs_p99 = 88000,
		.ratio_p95 = 0.0844,
		.ratio_p99 = 0.2315,
		.corr = -0.097,
	},
	{
		.name = "Hanlon",
		.what = "Dell T620, 128 GB, Red Hat 6.7 (2.6.32), a computer systems course of about 150 students",
		.samples_over = 480000,
		.runs_p95 = 2389,
		.runs_p99 = 9751,
		.ratio_p95 = 0.0777,
		.ratio_p99 = 0.1274,
		.corr = -0.097,
	},
};
