/* schema.c - schema.sql, inside the program, so that a binary copied alone can make a database */
#include "collector/schema.h"

__asm__(".pushsection .rodata\n"
	".global db_schema_sql\n"
	".hidden db_schema_sql\n"
	"db_schema_sql:\n"
	".incbin \"collector/schema.sql\"\n"
	".byte 0\n"
	".popsection\n");
