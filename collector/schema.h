/* schema.h - schema.sql, inside the program */
#ifndef COLLECTOR_SCHEMA_H
#define COLLECTOR_SCHEMA_H

/** db_schema_sql - The text of collector/schema.sql, terminated. */
extern const char db_schema_sql[];

#endif
