"""app.wsgi - a student's web application: contributions to a committee, from a zip code, on a day, as HTML tables

One process a student (mod_wsgi daemon mode), one database connection a process, opened with the first request and
kept.  Values reach the database as parameters only.
"""
import html
import os
import urllib.parse

import psycopg2

PAGES = {
    "committee": ("SELECT name, city, state, given, amount FROM contribution WHERE cmte_id = %s ORDER BY sub_id LIMIT 200",
                  "id"),
    "zip": ("SELECT city, count(*), sum(amount) FROM contribution WHERE zip LIKE %s || '%%' GROUP BY city ORDER BY 3 DESC "
            "LIMIT 50", "prefix"),
    "day": ("SELECT m.name, count(*), sum(c.amount) FROM contribution c JOIN committee m USING (cmte_id) "
            "WHERE c.given = %s GROUP BY 1 ORDER BY 3 DESC LIMIT 50", "date"),
}
_connection = None


def query(text, parameters):
    global _connection
    if _connection is None or _connection.closed:
        _connection = psycopg2.connect(host=os.environ["PGHOST"], dbname="fec", user=os.environ["PGUSER"])
        _connection.autocommit = True
    with _connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return [column.name for column in cursor.description], cursor.fetchall()


def table(names, rows):
    cells = ["<tr>%s</tr>" % "".join("<th>%s</th>" % html.escape(name) for name in names)]
    cells += ["<tr>%s</tr>" % "".join("<td>%s</td>" % html.escape(str(value)) for value in row) for row in rows]
    return "<table>\n%s\n</table>" % "\n".join(cells)


def application(environ, start_response):
    os.environ["PGHOST"], os.environ["PGUSER"] = environ["STUDENT_PGHOST"], environ["STUDENT_PGUSER"]
    page = environ.get("PATH_INFO", "").strip("/") or "index"
    given = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    status = "200 OK"
    try:
        if page in PAGES:
            text, parameter = PAGES[page]
            body = table(*query(text, (given.get(parameter, [""])[0],)))
        else:
            body = "<ul>%s</ul>" % "".join("<li>%s</li>" % name for name in PAGES)
    except psycopg2.Error as error:
        status, body = "500 Internal Server Error", "<pre>%s</pre>" % html.escape(str(error))
    data = ("<!DOCTYPE html><title>Contributions</title><h1>%s</h1>%s" % (html.escape(page), body)).encode()
    start_response(status, [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(data)))])
    return [data]
