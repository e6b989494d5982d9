/* SPDX-License-Identifier: MIT
 *
 * Tables: what a CSV file may be, what is refused and in which words, tables from arrays.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "prep.h"

#define BEIJING VKL_SOURCE_ROOT "/data/beijing_pm25_2013_2014.csv"

/* A file of the current folder that holds `bytes`; `path` gets its name. */
static void write_file(char path[64], const char *bytes, size_t size)
{
    strcpy(path, "test-table-XXXXXX");
    int file = mkstemp(path);
    cr_assert(file >= 0, "a file cannot be made in the current folder");
    cr_assert_eq(write(file, bytes, size), (ssize_t)size);
    close(file);
}

static VklStatus read_bytes(VklContext *context, const char *bytes, size_t size, VklTable **table)
{
    char path[64];
    write_file(path, bytes, size);
    VklStatus status = vkl_table_read_csv(context, path, table);
    remove(path);
    return status;
}

static VklTable *read_text(VklContext *context, const char *text)
{
    VklTable *table = NULL;
    TEST_OK(context, read_bytes(context, text, strlen(text), &table));
    return table;
}

#define N NAN

Test(table, reads_what_csv_may_be)
{
    static const struct {
        const char *what, *text;
        uint64_t rows;
        uint32_t columns;
        double values[6]; /* row by row */
    } cases[] = {
        {"plain", "a,b\n1,2\n3,4\n", 2, 2, {1, 2, 3, 4}},
        {"no line end at the end", "a,b\n1,2\n3,4", 2, 2, {1, 2, 3, 4}},
        {"CRLF", "a,b\r\n1,2\r\n3,4\r\n", 2, 2, {1, 2, 3, 4}},
        {"CR alone", "a,b\r1,2\r3,4\r", 2, 2, {1, 2, 3, 4}},
        {"byte-order mark",
         "\xEF\xBB\xBF"
         "a,b\n1,2\n",
         1,
         2,
         {1, 2}},
        {"quoted cells", "\"a\",\"b\"\n\"1\",\"2\"\n", 1, 2, {1, 2}},
        {"spaces around", " a , b \n 1 ,\t2 \n\" 3 \",4\n", 2, 2, {1, 2, 3, 4}},
        {"blank lines before and after", "\n\na,b\n1,2\n\n  \n\r\n", 1, 2, {1, 2}},
        {"a semicolon in a name", "a,b;c\n1,2\n", 1, 2, {1, 2}},
        {"gaps", "a,b\n,NA\nna,NaN\nnull,NULL\n", 3, 2, {N, N, N, N, N, N}},
        {"quoted gaps", "a,b\n\"\",\"nan\"\n", 1, 2, {N, N}},
        {"a blank line is a gap of the only column", "a\n1\n\n3\n\n", 3, 1, {1, N, 3}},
        {"two blank lines, CRLF", "a\r\n1\r\n\r\n\r\n4\r\n", 4, 1, {1, N, N, 4}},
        {"numbers", "a,b,c\n-1.5,+.5,1.\n1e3,-2.5E-1,0012\n", 2, 3, {-1.5, 0.5, 1, 1000, -0.25, 12}},
        {"the nearest double", "a,b\n0.1,9007199254740993\n", 1, 2, {0.1, 9007199254740992.0}},
        {"too small for a double", "a\n1e-999\n", 1, 1, {0}},
    };
    VklContext *context = test_context();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        VklTable *table = read_text(context, cases[i].text);
        cr_assert_eq(vkl_table_rows(table), cases[i].rows, "%s: %lu rows", cases[i].what, (unsigned long)vkl_table_rows(table));
        cr_assert_eq(vkl_table_columns(table), cases[i].columns, "%s", cases[i].what);
        cr_assert_str_eq(vkl_table_column_name(table, 0), "a", "%s", cases[i].what);
        cr_assert_null(vkl_table_label(table, 0), "%s", cases[i].what);
        for (uint64_t r = 0; r < cases[i].rows; r++) {
            for (uint32_t c = 0; c < cases[i].columns; c++) {
                double got = vkl_table_column(table, c)[r], want = cases[i].values[r * cases[i].columns + c];
                cr_assert(isnan(want) ? isnan(got) : got == want, "%s: row %lu column %u is %g, not %g", cases[i].what,
                          (unsigned long)r, (unsigned)c, got, want);
            }
        }
        vkl_table_destroy(table);
    }
    vkl_context_destroy(context);
}

/* What is wrong is said with the line; "@" stands for the file's name. */
Test(table, refuses_with_the_line)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"", "@: the file is empty; a header line and rows are needed"},
        {"\n \n", "@: the file is empty; a header line and rows are needed"},
        {"\xEF\xBB\xBF", "@: the file is empty; a header line and rows are needed"},
        {"a,b\n", "@:1: no rows follow the header"},
        {"a,b\n1,2\n3\n", "@:3: the row has 1 cell, the header has 2"},
        {"a,b\r\n1,2\r\n3,4,5\r\n", "@:3: the row has 3 cells, the header has 2"},
        {"a,b\n1,2,\n", "@:2: the row has 3 cells, the header has 2"},
        {"a,b\n1,2\n\n3,4\n", "@:3: the line is blank, the header has 2 cells"},
        {"a,\n1,2\n", "@:1: column 2 has no name"},
        {"\n\na,b,a\n1,2,3\n", "@:3: two columns have the name 'a'"},
        {"a,\xFF\n1,2\n", "@:1: the name of column 2 is not UTF-8"},
        {"\xFF\xFE"
         "a\n1\n",
         "@:1: the name of column 1 is not UTF-8"},
        {"date;v\n2000-01;1,5\n", "@:1: the header is one column, 'date;v', with ';' in it; cells must be separated by commas"},
        {"date\tv\n2000-01\t1\n", "@:1: the header is one column, 'date v', with a tab in it; cells must be separated by commas"},
        {"a,b\n1,2\n3,4\"5\n",
         "@:3: bad quoting in the row: a quoted cell begins and ends with a \" beside the commas, and doubles "
         "those inside it"},
        {"a,b\n\"x\n\ny\",2\n\"3\"4,5\n",
         "@:5: bad quoting in the row: a quoted cell begins and ends with a \" beside the commas, "
         "and doubles those inside it"},
        {"a,b\n1,2\n3,\"4\n5,6\n", "@:3: bad quoting in the row: a quoted cell begins and ends with a \" beside the commas, and "
                                   "doubles those inside it"},
        {"a,b\n\"x\r\ny\",2\r\n3\r\n", "@:4: the row has 1 cell, the header has 2"},
    };
    VklContext *context = test_context();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char path[64], sentence[VKL_MESSAGE_SIZE];
        write_file(path, cases[i].text, strlen(cases[i].text));
        snprintf(sentence, sizeof(sentence), "%s%s", path, cases[i].sentence + 1);
        VklTable *table = NULL;
        VklStatus status = vkl_table_read_csv(context, path, &table);
        remove(path);
        cr_assert_eq(status, VKL_ERROR_FORMAT, "case %zu: status %d", i, (int)status);
        cr_assert_str_eq(vkl_context_error(context), sentence);
        cr_assert_null(table);
    }
    vkl_context_destroy(context);
}

Test(table, refuses_what_cannot_be_read)
{
    VklContext *context = test_context();
    VklTable *table = NULL;
    cr_assert_eq(vkl_table_read_csv(context, "there/is/none.csv", &table), VKL_ERROR_IO);
    cr_assert_str_eq(vkl_context_error(context), "there/is/none.csv: cannot be opened: No such file or directory");
    cr_assert_eq(vkl_table_read_csv(context, VKL_SOURCE_ROOT, &table), VKL_ERROR_IO);
    cr_assert_str_eq(vkl_context_error(context), VKL_SOURCE_ROOT ": cannot be read: Is a directory");
    cr_assert_eq(vkl_table_read_csv(context, NULL, &table), VKL_ERROR_INVALID);
    cr_assert_null(table);
    vkl_context_destroy(context);
}

/* Text and infinities are no error until their column is used as numbers. */
Test(table, tells_where_a_column_is_no_number)
{
    static const struct {
        const char *text, *sentence;
        VklStatus status;
    } cases[] = {
        {"a,b\n1,2\n", "", VKL_OK},
        {"a,b\n1,x\n", "", VKL_OK},
        {"a,b\n1,2\n,3\n 4 five ,5\n6,six\n", "@:4: column 'a' has the text '4 five' where a number is needed", VKL_ERROR_FORMAT},
        {"b,a\n1,0x10\n", "@:2: column 'a' has the text '0x10' where a number is needed", VKL_ERROR_FORMAT},
        {"b,a\n1,\"1,5\"\n", "@:2: column 'a' has the text '1,5' where a number is needed", VKL_ERROR_FORMAT},
        {"b,a\n1,1e\n", "@:2: column 'a' has the text '1e' where a number is needed", VKL_ERROR_FORMAT},
        {"b,a\n1,.\n", "@:2: column 'a' has the text '.' where a number is needed", VKL_ERROR_FORMAT},
        {"b,a\n1,-\n", "@:2: column 'a' has the text '-' where a number is needed", VKL_ERROR_FORMAT},
        {"b,a\n1,nan(1)\n", "@:2: column 'a' has the text 'nan(1)' where a number is needed", VKL_ERROR_FORMAT},
        {"b,a\n\"x\ny\",1\n2,\"p\nq\"\n", "@:4: column 'a' has the text 'p q' where a number is needed", VKL_ERROR_FORMAT},
        {"b,a\n1,0123456789012345678901234567890123456789012\xC3\xA9\xC3\xA9\xC3\xA9\n",
         "@:2: column 'a' has the text '0123456789012345678901234567890123456789012...' where a number is needed",
         VKL_ERROR_FORMAT},
        {"a\n1\ninf\n", "@:3: column 'a' has an infinity; values must be finite", VKL_ERROR_FORMAT},
        {"a\n-Infinity\n", "@:2: column 'a' has an infinity; values must be finite", VKL_ERROR_FORMAT},
        {"a\n1e999\n", "@:2: column 'a' has an infinity; values must be finite", VKL_ERROR_FORMAT},
        {"b,c\n1,2\n", "@ has no column 'a'; it has: b, c", VKL_ERROR_INVALID},
    };
    VklContext *context = test_context();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char path[64], sentence[VKL_MESSAGE_SIZE];
        write_file(path, cases[i].text, strlen(cases[i].text));
        VklTable *table = NULL;
        TEST_OK(context, vkl_table_read_csv(context, path, &table));
        remove(path);
        VklError error = {.message = ""};
        uint32_t column = 7;
        VklStatus status = vkl_table_use(context, &error, table, "a", &column);
        cr_assert_eq(status, cases[i].status, "case %zu: status %d: %s", i, (int)status, error.message);
        snprintf(sentence, sizeof(sentence), "%s%s", status == VKL_OK ? "" : path, status == VKL_OK ? "" : cases[i].sentence + 1);
        cr_assert_str_eq(error.message, sentence);
        vkl_table_destroy(table);
    }
    vkl_context_destroy(context);
}

Test(table, lists_no_more_columns_than_fit)
{
    char header[2048] = "", text[4096];
    for (int i = 0; i < 200; i++)
        snprintf(header + strlen(header), sizeof(header) - strlen(header), "%scolumn%d", i ? "," : "", i);
    snprintf(text, sizeof(text), "%s\n", header);
    for (int i = 0; i < 200; i++)
        strcat(text, i ? ",1" : "1");
    VklContext *context = test_context();
    VklTable *table = read_text(context, text);
    uint32_t column;
    cr_assert_eq(vkl_table_use(context, NULL, table, "none", &column), VKL_ERROR_INVALID);
    const char *sentence = vkl_context_error(context);
    cr_assert_not_null(strstr(sentence, "it has: column0, column1, "));
    cr_assert_not_null(strstr(sentence, ", ... (200 in all)"));
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* Of a path that is too long for a sentence the end and the line are kept. */
Test(table, names_the_line_after_a_long_path)
{
    uint64_t line = 1234567890;
    char path[600], place[VKL_PLACE_SIZE];
    memset(path, 'x', sizeof(path));
    strcpy(path + sizeof(path) - 10, "/data.csv");
    VklTable table = {.path = path, .rows = 1, .lines = &line};
    vkl_table_place(&table, 0, place);
    cr_assert_eq(strncmp(place, "...xxx", 6), 0);
    cr_assert_str_eq(place + strlen(place) - 20, "/data.csv:1234567890");
}

Test(table, labels_rows_by_the_text_of_the_first_column)
{
    VklContext *context = test_context();
    VklTable *table = read_text(context, "day,a\n2020-01-01,1\n\"the second, \"\"2nd\"\"\",2\n3,3\n,4\n");
    static const char *const labels[] = {"2020-01-01", "the second, \"2nd\"", "3", ""};
    for (uint64_t r = 0; r < 4; r++)
        cr_assert_str_eq(vkl_table_label(table, r), labels[r]);
    cr_assert_null(vkl_table_label(table, 4));
    cr_assert_eq(vkl_table_find(table, "a"), 1);
    cr_assert_eq(vkl_table_find(table, "A"), -1);
    cr_assert(isnan(vkl_table_column(table, 0)[0]));
    cr_assert_eq(vkl_table_column(table, 0)[2], 3);
    cr_assert_null(vkl_table_column(table, 2));
    cr_assert_null(vkl_table_column_name(table, 2));
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* Lines are counted over the pieces in which a file is read, wherever those end. */
Test(table, counts_lines_in_long_files)
{
    VklContext *context = test_context();
    size_t size = 0, room = 1 << 20;
    char *text = malloc(room);
    cr_assert_not_null(text);
    const char *line_ends[] = {"\n", "\r\n"};
    for (size_t e = 0; e < 2; e++) {
        size = (size_t)snprintf(text, room, "day,a%s", line_ends[e]);
        for (int i = 0; i < 30000; i++)
            size += (size_t)snprintf(text + size, room - size, "\"d %d\",%d%s", i, i, line_ends[e]);
        size += (size_t)snprintf(text + size, room - size, "x,y%s", line_ends[e]);
        char path[64], sentence[256];
        write_file(path, text, size);
        VklTable *table = NULL;
        TEST_OK(context, vkl_table_read_csv(context, path, &table));
        remove(path);
        cr_assert_eq(vkl_table_rows(table), 30001);
        for (int i = 0; i < 30000; i++)
            cr_assert_eq(vkl_table_column(table, 1)[i], i);
        cr_assert_str_eq(vkl_table_label(table, 29999), "d 29999");
        uint32_t column;
        cr_assert_eq(vkl_table_use(context, NULL, table, "a", &column), VKL_ERROR_FORMAT);
        snprintf(sentence, sizeof(sentence), "%s:30002: column 'a' has the text 'y' where a number is needed", path);
        cr_assert_str_eq(vkl_context_error(context), sentence);
        vkl_table_destroy(table);
    }
    free(text);
    vkl_context_destroy(context);
}

Test(table, reads_numbers_under_any_locale)
{
    test_comma_locale();
    VklContext *context = test_context();
    VklTable *table = read_text(context, "a\n1.5\n");
    cr_assert_eq(vkl_table_column(table, 0)[0], 1.5);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

Test(table, reads_a_real_file)
{
    VklContext *context = test_context();
    VklTable *table = NULL;
    TEST_OK(context, vkl_table_read_csv(context, BEIJING, &table));
    cr_assert_eq(vkl_table_rows(table), 17520);
    cr_assert_eq(vkl_table_columns(table), 9);
    const double *pm25 = vkl_table_column(table, (uint32_t)vkl_table_find(table, "pm25"));
    uint64_t gaps = 0;
    for (uint64_t r = 0; r < 17520; r++)
        gaps += isnan(pm25[r]);
    cr_assert_eq(gaps, 181);
    cr_assert_str_eq(vkl_table_label(table, 0), "2013-01-01T00:00");
    uint32_t column;
    cr_assert_eq(vkl_table_use(context, NULL, table, "wind_dir", &column), VKL_ERROR_FORMAT);
    cr_assert_str_eq(vkl_context_error(context), BEIJING ":2: column 'wind_dir' has the text 'NW' where a number is needed");
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

Test(table, is_made_from_arrays)
{
    static const char *const names[] = {"a", "b"}, *const labels[] = {"x", NULL, ""};
    static const double values[] = {1, NAN, 3, 4, 5, INFINITY};
    VklContext *context = test_context();
    VklTable *table = NULL;
    TEST_OK(context, vkl_table_create(context, 3, 2, names, values, labels, &table));
    cr_assert_eq(vkl_table_rows(table), 3);
    cr_assert_eq(vkl_table_column(table, 0)[2], 5);
    cr_assert(isnan(vkl_table_column(table, 1)[0]));
    cr_assert_str_eq(vkl_table_label(table, 0), "x");
    cr_assert_str_eq(vkl_table_label(table, 1), "");
    uint32_t column;
    cr_assert_eq(vkl_table_use(context, NULL, table, "b", &column), VKL_ERROR_FORMAT);
    cr_assert_str_eq(vkl_context_error(context), "row 2: column 'b' has an infinity; values must be finite");
    cr_assert_eq(vkl_table_use(context, NULL, table, "c", &column), VKL_ERROR_INVALID);
    cr_assert_str_eq(vkl_context_error(context), "the table has no column 'c'; it has: a, b");
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

Test(table, is_not_made_from_nonsense)
{
    static const char *const names[] = {"a", "b"}, *const twice[] = {"a", "a"}, *const missing[] = {"a", NULL};
    static const double values[] = {1, 2};
    VklContext *context = test_context();
    VklTable *table = NULL;
    cr_assert_eq(vkl_table_create(context, 0, 2, names, values, NULL, &table), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_table_create(context, 1, 0, names, values, NULL, &table), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_table_create(context, 1, 2, NULL, values, NULL, &table), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_table_create(context, 1, 2, names, NULL, NULL, &table), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_table_create(context, 1, 2, twice, values, NULL, &table), VKL_ERROR_INVALID);
    cr_assert_str_eq(vkl_context_error(context), "vkl_table_create: two columns have the name 'a'");
    cr_assert_eq(vkl_table_create(context, 1, 2, missing, values, NULL, &table), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_table_create(context, UINT64_MAX, 2, names, values, NULL, &table), VKL_ERROR_HOST_MEMORY);
    cr_assert_null(table);
    vkl_table_destroy(NULL);
    vkl_context_destroy(context);
}

Test(table, knows_utf8)
{
    static const char *const good[] = {"", "abc", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"};
    /* bare follow-up byte, cut short, longer than needed, a surrogate, beyond U+10FFFF */
    static const char *const bad[] = {"\x80",
                                      "a\xC3",
                                      "\xE2\x82",
                                      "\xC0\x80",
                                      "\xE0\x80\x80",
                                      "\xED\xA0\x80",
                                      "\xFF",
                                      "\xF4\x90\x80\x80",
                                      "\xF8\x80\x80\x80\x80"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        cr_assert(vkl_utf8(good[i]), "%zu", i);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(!vkl_utf8(bad[i]), "%zu", i);
}

/* Any cut and any changed byte of a file gives a table or a sentence. */
Test(table, survives_damaged_files)
{
    static const char text[] = "\xEF\xBB\xBF"
                               "day,\"a\"\"x\",b\r\n2020-01-01,\"1.5\",\n\"x, y\n\",NA,-3e5\r\n\r\n";
    VklContext *context = test_context();
    for (size_t size = 0; size < sizeof(text) - 1; size++) {
        VklTable *table = NULL;
        VklStatus status = read_bytes(context, text, size, &table);
        cr_assert((status == VKL_OK) == (table != NULL));
        vkl_table_destroy(table);
    }
    static const char bytes[] = {'"', ',', '\n', '\r', '\0', ' ', '9', (char)0xFF};
    for (size_t at = 0; at < sizeof(text) - 1; at++) {
        for (size_t b = 0; b < sizeof(bytes); b++) {
            char changed[sizeof(text)];
            memcpy(changed, text, sizeof(text));
            changed[at] = bytes[b];
            VklTable *table = NULL;
            VklStatus status = read_bytes(context, changed, sizeof(text) - 1, &table);
            cr_assert((status == VKL_OK) == (table != NULL));
            vkl_table_destroy(table);
        }
    }
    vkl_context_destroy(context);
}
