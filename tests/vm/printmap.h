/* printmap.h - for processes in a guest that tell their own map to a test on the host */
#ifndef TESTS_VM_PRINTMAP_H
#define TESTS_VM_PRINTMAP_H

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "rle/mapw.h"
#include "rle/proc.h"

/* Prints "MAP", the map of this process into frames in hexadecimal digits, and a newline. */
static void print_map(size_t max_bytes)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = (uint64_t)getpid()};
	struct rle_mapw *w;
	struct rle_src src;
	struct rle_proc p;
	struct rle_enc e;
	const char *why;
	size_t bytes;
	uint8_t *blob;

	if (rle_src_open(&src, NULL, RLE_JOIN_NONE, &why))
		errx(2, "%s", why);
	if (rle_proc_open(&p, &src, getpid()) || rle_mapw_begin_mem(&w, &meta, max_bytes))
		errx(2, "cannot begin to scan");
	rle_enc_init(&e, meta.split, rle_mapw_run, w, &src.frames);
	if (rle_proc_scan(&p, &e, NULL) || rle_mapw_finish(w))
		errx(2, "cannot scan");
	blob = rle_mapw_take(w, &bytes);
	fputs("MAP ", stdout);
	for (size_t i = 0; i < bytes; i++)
		printf("%02x", blob[i]);
	putchar('\n');
	fflush(stdout);
	free(blob);
	rle_mapw_free(w);
	rle_proc_close(&p);
	rle_src_close(&src);
}

#endif
