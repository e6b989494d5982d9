/* SPDX-License-Identifier: MIT
 *
 * VklTable: columns of numbers with gaps, from a CSV file or from arrays.
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "prep.h"
#include "system.h"

#ifdef VKL_WITH_CSV
#include <csv.h>
#endif

bool vkl_utf8(const char *text)
{
    const unsigned char *byte = (const unsigned char *)text;
    while (*byte) {
        static const struct {
            unsigned char mask, lead;
            uint32_t lowest;
        } forms[] = {{0x80, 0x00, 0}, {0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};
        unsigned follow = 0;
        while (follow < 4 && (*byte & forms[follow].mask) != forms[follow].lead)
            follow++;
        if (follow == 4)
            return false;
        uint32_t code = *byte & (unsigned char)~forms[follow].mask;
        for (unsigned i = 1; i <= follow; i++) {
            if ((byte[i] & 0xC0) != 0x80)
                return false;
            code = code << 6 | (byte[i] & 0x3F);
        }
        if (code < forms[follow].lowest || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
            return false;
        byte += follow + 1;
    }
    return true;
}

void vkl_table_destroy(VklTable *table)
{
    if (!table)
        return;
    for (uint32_t c = 0; table->column && c < table->columns; c++) {
        vkl_release(table->column[c].name);
        vkl_release(table->column[c].values);
    }
    vkl_release(table->column);
    vkl_release(table->path);
    vkl_release(table->lines);
    vkl_release(table->label_text);
    vkl_release(table->labels);
    vkl_release(table);
}

uint64_t vkl_table_rows(const VklTable *table)
{
    return table->rows;
}

uint32_t vkl_table_columns(const VklTable *table)
{
    return table->columns;
}

const char *vkl_table_column_name(const VklTable *table, uint32_t column)
{
    return column < table->columns ? table->column[column].name : NULL;
}

int64_t vkl_table_find(const VklTable *table, const char *name)
{
    for (uint32_t c = 0; c < table->columns; c++)
        if (strcmp(table->column[c].name, name) == 0)
            return c;
    return -1;
}

const double *vkl_table_column(const VklTable *table, uint32_t column)
{
    return column < table->columns ? table->column[column].values : NULL;
}

const char *vkl_table_label(const VklTable *table, uint64_t row)
{
    return table->labels && row < table->rows ? table->label_text + table->labels[row] : NULL;
}

const char *vkl_table_name(const VklTable *table)
{
    return table->path ? table->path : "the table";
}

const char *vkl_table_place(const VklTable *table, uint64_t row, char place[VKL_PLACE_SIZE])
{
    if (!table->path) {
        snprintf(place, VKL_PLACE_SIZE, "row %llu", (unsigned long long)row);
        return place;
    }
    /* of a path that is too long the end says more than the beginning, and the line most of all */
    const size_t room = VKL_PLACE_SIZE - 32;
    size_t length = strlen(table->path), cut = length > room ? length - room : 0;
    while (cut && ((unsigned char)table->path[cut] & 0xC0) == 0x80)
        cut++;
    snprintf(place, VKL_PLACE_SIZE, "%s%s:%llu", cut ? "..." : "", table->path + cut, (unsigned long long)table->lines[row]);
    return place;
}

/* "a, b, c", or as many of them as fit and how many there are. */
static void list_columns(const VklTable *table, char *text, size_t size)
{
    const size_t room_for_rest = 32;
    size_t used = 0;
    for (uint32_t c = 0; c < table->columns; c++) {
        size_t length = strlen(table->column[c].name) + (c ? 2 : 0);
        if (used + length + room_for_rest > size) {
            snprintf(text + used, size - used, "%s... (%lu in all)", c ? ", " : "", (unsigned long)table->columns);
            return;
        }
        used += (size_t)snprintf(text + used, size - used, "%s%s", c ? ", " : "", table->column[c].name);
    }
}

VklStatus vkl_table_use(VklContext *context, VklError *error, const VklTable *table, const char *name, uint32_t *column)
{
    char place[VKL_PLACE_SIZE];
    int64_t found = vkl_table_find(table, name);
    if (found < 0) {
        char list[320];
        list_columns(table, list, sizeof(list));
        return vkl_fail(context, error, VKL_ERROR_INVALID, "%s has no column '%.64s'; it has: %s", vkl_table_name(table), name,
                        list);
    }
    const VklTableColumn *used = &table->column[found];
    if (used->text_row != VKL_NO_ROW)
        return vkl_fail(context, error, VKL_ERROR_FORMAT, "%s: column '%.64s' has the text '%s' where a number is needed",
                        vkl_table_place(table, used->text_row, place), name, used->text);
    if (used->infinite_row != VKL_NO_ROW)
        return vkl_fail(context, error, VKL_ERROR_FORMAT, "%s: column '%.64s' has an infinity; values must be finite",
                        vkl_table_place(table, used->infinite_row, place), name);
    *column = (uint32_t)found;
    return VKL_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names that stand for a column must be there, be text, and be different. `place` begins the sentence. */
static VklStatus check_names(VklContext *context, const VklTable *table, VklStatus failure, const char *place)
{
    for (uint32_t c = 0; c < table->columns; c++) {
        if (!table->column[c].name[0])
            return vkl_fail(context, NULL, failure, "%s: column %lu has no name", place, (unsigned long)c + 1);
        if (!vkl_utf8(table->column[c].name))
            return vkl_fail(context, NULL, failure, "%s: the name of column %lu is not UTF-8", place, (unsigned long)c + 1);
    }
    const char **names = vkl_allocate(&context->desc.memory, table->columns, sizeof(*names));
    if (!names)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "%s: no memory for %lu columns", place,
                        (unsigned long)table->columns);
    for (uint32_t c = 0; c < table->columns; c++)
        names[c] = table->column[c].name;
    qsort(names, table->columns, sizeof(*names), compare_names);
    VklStatus status = VKL_OK;
    for (uint32_t c = 1; c < table->columns && status == VKL_OK; c++)
        if (strcmp(names[c - 1], names[c]) == 0)
            status = vkl_fail(context, NULL, failure, "%s: two columns have the name '%.64s'", place, names[c]);
    vkl_release(names);
    return status;
}

static void init_column(VklTableColumn *column)
{
    *column = (VklTableColumn){.text_row = VKL_NO_ROW, .infinite_row = VKL_NO_ROW};
}

VklStatus vkl_table_create(VklContext *context, uint64_t rows, uint32_t columns, const char *const *names, const double *values,
                           const char *const *labels, VklTable **table)
{
    if (!names || !values || !table)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_table_create: %s is NULL",
                        !names    ? "names"
                        : !values ? "values"
                                  : "table");
    if (!rows || !columns)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_table_create: rows is %llu and columns is %lu; each must be at least 1", (unsigned long long)rows,
                        (unsigned long)columns);
    VklTable *made = vkl_allocate(&context->desc.memory, 1, sizeof(*made));
    VklStatus status = VKL_OK;
    if (!made)
        goto memory;
    made->rows = rows;
    made->columns = columns;
    made->column = vkl_allocate(&context->desc.memory, columns, sizeof(*made->column));
    if (!made->column)
        goto memory;
    for (uint32_t c = 0; c < columns; c++) {
        VklTableColumn *column = &made->column[c];
        init_column(column);
        column->name = vkl_copy_text(&context->desc.memory, names[c] ? names[c] : "");
        column->values = vkl_allocate(&context->desc.memory, rows, sizeof(*column->values));
        if (!column->name || !column->values)
            goto memory;
        for (uint64_t r = 0; r < rows; r++) {
            column->values[r] = values[r * columns + c];
            if (isinf(column->values[r]) && column->infinite_row == VKL_NO_ROW)
                column->infinite_row = r;
        }
    }
    if (labels) {
        uint64_t size = 0;
        for (uint64_t r = 0; r < rows; r++)
            size += (labels[r] ? strlen(labels[r]) : 0) + 1;
        made->label_text = vkl_allocate(&context->desc.memory, size, 1);
        made->labels = vkl_allocate(&context->desc.memory, rows, sizeof(*made->labels));
        if (!made->label_text || !made->labels)
            goto memory;
        uint64_t used = 0;
        for (uint64_t r = 0; r < rows; r++) {
            size_t length = labels[r] ? strlen(labels[r]) : 0;
            if (length)
                memcpy(made->label_text + used, labels[r], length);
            made->labels[r] = used;
            used += length + 1;
        }
    }
    status = check_names(context, made, VKL_ERROR_INVALID, "vkl_table_create");
    if (status != VKL_OK) {
        vkl_table_destroy(made);
        return status;
    }
    *table = made;
    return VKL_OK;
memory:
    vkl_table_destroy(made);
    return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_table_create: no memory for %llu rows of %lu columns",
                    (unsigned long long)rows, (unsigned long)columns);
}

#ifdef VKL_WITH_CSV

typedef struct Reader {
    VklContext *context;
    VklTable *table;
    locale_t locale; /* "C": the host program may have set one with a decimal comma */
    VklStatus status;
    bool in_header, between_rows;
    uint64_t line;        /* of the byte being read, from 1 */
    uint64_t row_line;    /* where the row being read began: a quoted cell may hold line ends */
    uint64_t first_blank; /* the first of the blank lines just before; 0: none */
    uint64_t cells;       /* of the row being read, so far */
    uint64_t capacity;    /* rows that the columns have room for */
    uint32_t column_capacity;
    uint64_t label_size, label_capacity;
    bool labelled; /* the first column has text */
} Reader;

static void no_memory(Reader *reader)
{
    reader->status = vkl_fail(reader->context, NULL, VKL_ERROR_HOST_MEMORY, "%s:%llu: no memory for the table",
                              reader->table->path, (unsigned long long)reader->row_line);
}

/* Makes an array twice as long; false: no memory, and the array is as it was. */
static bool grow(const Reader *reader, void *array_pointer, uint64_t count, size_t size)
{
    void *old, *grown;
    memcpy(&old, array_pointer, sizeof(old)); /* any object pointer may be passed */
    if (!(grown = vkl_reallocate(&reader->context->desc.memory, old, count, size)))
        return false;
    memcpy(array_pointer, &grown, sizeof(grown));
    return true;
}

static void add_column(Reader *reader, const char *name)
{
    VklTable *table = reader->table;
    if (table->columns == reader->column_capacity) {
        uint32_t capacity = reader->column_capacity ? reader->column_capacity * 2 : 16;
        if (capacity < reader->column_capacity || !grow(reader, &table->column, capacity, sizeof(*table->column))) {
            no_memory(reader);
            return;
        }
        reader->column_capacity = capacity;
    }
    init_column(&table->column[table->columns]);
    table->columns++;
    if (!(table->column[table->columns - 1].name = vkl_copy_text(&reader->context->desc.memory, name)))
        no_memory(reader);
}

static bool reserve_row(Reader *reader)
{
    VklTable *table = reader->table;
    if (table->rows < reader->capacity)
        return true;
    uint64_t capacity = reader->capacity ? reader->capacity * 2 : 256;
    bool grown = grow(reader, &table->lines, capacity, sizeof(*table->lines)) &&
                 grow(reader, &table->labels, capacity, sizeof(*table->labels));
    for (uint32_t c = 0; c < table->columns && grown; c++)
        grown = grow(reader, &table->column[c].values, capacity, sizeof(double));
    if (grown)
        reader->capacity = capacity;
    else
        no_memory(reader);
    return grown;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool same_word(const char *text, size_t length, const char *word)
{
    return length == strlen(word) && strncasecmp(text, word, length) == 0;
}

/* Whether text[length] is a decimal number. What strtod() takes beyond that (hexadecimal, "nan(...)") is text to us. */
static bool is_number(const char *text, size_t length)
{
    size_t i = 0, digits = 0;
    if (i < length && (text[i] == '+' || text[i] == '-'))
        i++;
    for (; i < length && is_digit(text[i]); i++)
        digits++;
    if (i < length && text[i] == '.')
        for (i++; i < length && is_digit(text[i]); i++)
            digits++;
    if (!digits)
        return false;
    if (i < length && (text[i] == 'e' || text[i] == 'E')) {
        i++;
        if (i < length && (text[i] == '+' || text[i] == '-'))
            i++;
        if (i == length)
            return false;
        while (i < length && is_digit(text[i]))
            i++;
    }
    return i == length;
}

/* Reads a cell; false: it is text. The result is NaN for a gap, an infinity also for a number beyond double's range. */
static bool read_number(const Reader *reader, const char *text, size_t length, double *value)
{
    while (length && is_blank(text[0])) {
        text++;
        length--;
    }
    while (length && is_blank(text[length - 1]))
        length--;
    if (!length || same_word(text, length, "NA") || same_word(text, length, "NaN") || same_word(text, length, "null")) {
        *value = NAN;
        return true;
    }
    size_t sign = text[0] == '+' || text[0] == '-';
    if (same_word(text + sign, length - sign, "inf") || same_word(text + sign, length - sign, "infinity")) {
        *value = text[0] == '-' ? -INFINITY : INFINITY;
        return true;
    }
    if (!is_number(text, length))
        return false;
    locale_t previous = uselocale(reader->locale); /* of this thread alone */
    *value = strtod(text, NULL);
    uselocale(previous);
    return true;
}

/* Keeps what fits of a text, cut between characters, on one line. */
static void keep_text(char *kept, size_t size, const char *text, size_t length)
{
    size_t n = length < size - 1 ? length : size - 4;
    while (n < length && n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--;
    for (size_t i = 0; i < n; i++)
        kept[i] = (unsigned char)text[i] < ' ' ? ' ' : text[i];
    snprintf(kept + n, size - n, "%s", n < length ? "..." : "");
}

static bool keep_label(Reader *reader, const char *text, size_t length)
{
    VklTable *table = reader->table;
    uint64_t needed = reader->label_size + length + 1;
    if (needed > reader->label_capacity) {
        uint64_t capacity = needed < 4096 ? 4096 : needed * 2;
        if (!grow(reader, &table->label_text, capacity, 1)) {
            no_memory(reader);
            return false;
        }
        reader->label_capacity = capacity;
    }
    if (length)
        memcpy(table->label_text + reader->label_size, text, length);
    table->label_text[needed - 1] = '\0';
    table->labels[table->rows] = reader->label_size;
    reader->label_size = needed;
    return true;
}

static void add_cell(Reader *reader, const char *text, size_t length)
{
    VklTable *table = reader->table;
    uint64_t c = reader->cells++;
    if (reader->in_header) {
        add_column(reader, text);
        return;
    }
    if (c >= table->columns)
        return; /* end_row() says so */
    if (c == 0 && (!reserve_row(reader) || !keep_label(reader, text, length)))
        return;
    VklTableColumn *column = &table->column[c];
    double *value = &column->values[table->rows];
    if (!read_number(reader, text, length, value)) {
        *value = NAN;
        reader->labelled |= c == 0;
        if (column->text_row == VKL_NO_ROW) {
            column->text_row = table->rows;
            keep_text(column->text, sizeof(column->text), text, length);
        }
    } else if (isinf(*value) && column->infinite_row == VKL_NO_ROW) {
        column->infinite_row = table->rows;
    }
}

/* A header of one cell that holds what other programs write between cells: a table of one column is not what was meant. */
static VklStatus check_separator(const Reader *reader, const char *place)
{
    const VklTable *table = reader->table;
    const char *name = table->column[0].name;
    char kept[64];
    bool semicolon = strchr(name, ';') != NULL;
    if (table->columns > 1 || (!semicolon && !strchr(name, '\t')))
        return VKL_OK;
    keep_text(kept, sizeof(kept), name, strlen(name));
    return vkl_fail(reader->context, NULL, VKL_ERROR_FORMAT,
                    "%s: the header is one column, '%s', with %s in it; cells must be separated by commas", place, kept,
                    semicolon ? "';'" : "a tab");
}

static void end_row(Reader *reader)
{
    VklTable *table = reader->table;
    if (reader->in_header) {
        char place[VKL_PLACE_SIZE];
        snprintf(place, sizeof(place), "%s:%llu", table->path, (unsigned long long)reader->row_line);
        reader->status = check_names(reader->context, table, VKL_ERROR_FORMAT, place);
        if (reader->status == VKL_OK)
            reader->status = check_separator(reader, place);
        reader->in_header = false;
    } else if (reader->cells != table->columns) {
        reader->status = vkl_fail(reader->context, NULL, VKL_ERROR_FORMAT, "%s:%llu: the row has %llu %s, the header has %lu",
                                  table->path, (unsigned long long)reader->row_line, (unsigned long long)reader->cells,
                                  reader->cells == 1 ? "cell" : "cells", (unsigned long)table->columns);
    } else {
        table->lines[table->rows] = reader->row_line;
        table->rows++;
    }
    reader->cells = 0;
}

static void on_cell(void *text, size_t length, void *user)
{
    Reader *reader = user;
    if (reader->status == VKL_OK)
        add_cell(reader, text ? text : "", text ? length : 0);
}

static void on_row(int terminator, void *user)
{
    Reader *reader = user;
    (void)terminator;
    reader->between_rows = true;
    if (reader->status == VKL_OK)
        end_row(reader);
}

/* A row begins. In a table of one column a blank line before it is a row with a gap, as RFC 4180 has it; elsewhere it is a row
 * with too few cells. Blank lines before the header or after the last row never get here. */
static void begin_row(Reader *reader)
{
    reader->between_rows = false;
    for (uint64_t line = reader->first_blank; line && line < reader->line && reader->status == VKL_OK; line++) {
        if (reader->in_header)
            break;
        reader->row_line = line;
        if (reader->table->columns == 1) {
            add_cell(reader, "", 0);
            if (reader->status == VKL_OK)
                end_row(reader);
        } else {
            reader->status =
                vkl_fail(reader->context, NULL, VKL_ERROR_FORMAT, "%s:%llu: the line is blank, the header has %lu cells",
                         reader->table->path, (unsigned long long)line, (unsigned long)reader->table->columns);
        }
    }
    reader->first_blank = 0;
    reader->row_line = reader->line;
}

static VklStatus parse_error(Reader *reader, struct csv_parser *parser)
{
    if (reader->status != VKL_OK)
        return reader->status;
    if (csv_error(parser) == CSV_EPARSE)
        return vkl_fail(reader->context, NULL, VKL_ERROR_FORMAT,
                        "%s:%llu: bad quoting in the row: a quoted cell begins and ends with a \" beside the commas, and doubles "
                        "those inside it",
                        reader->table->path, (unsigned long long)reader->row_line);
    no_memory(reader);
    return reader->status;
}

/* Feeds the bytes in pieces that end with a line, so that every cell is known to be of the line that is counted. */
static VklStatus parse(Reader *reader, struct csv_parser *parser, const char *bytes, size_t size, bool *after_return)
{
    size_t begin = 0;
    while (begin < size) {
        size_t end = begin;
        bool blank = true;
        while (end < size && bytes[end] != '\n' && bytes[end] != '\r')
            blank &= is_blank(bytes[end++]);
        bool line_ends = end < size;
        bool second_of_pair = *after_return && bytes[begin] == '\n';
        *after_return = line_ends && bytes[end] == '\r';
        if (!blank && reader->between_rows)
            begin_row(reader);
        bool was_between = reader->between_rows;
        size_t piece = end + (line_ends ? 1 : 0) - begin;
        if (reader->status != VKL_OK || csv_parse(parser, bytes + begin, piece, on_cell, on_row, reader) != piece ||
            reader->status != VKL_OK)
            return parse_error(reader, parser);
        if (line_ends && !second_of_pair) {
            if (was_between && !reader->first_blank)
                reader->first_blank = reader->line;
            reader->line++;
        }
        begin += piece;
    }
    return VKL_OK;
}

static VklStatus read_file(Reader *reader, struct csv_parser *parser, FILE *file)
{
    char bytes[4096], reason[VKL_ERRNO_SIZE];
    bool after_return = false, first = true;
    size_t size;
    while ((size = fread(bytes, 1, sizeof(bytes), file)) > 0) {
        size_t mark = first && size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
        first = false;
        VklStatus status = parse(reader, parser, bytes + mark, size - mark, &after_return);
        if (status != VKL_OK)
            return status;
    }
    if (ferror(file))
        return vkl_fail(reader->context, NULL, VKL_ERROR_IO, "%s: cannot be read: %s", reader->table->path,
                        vkl_errno_text(errno, reason));
    if (csv_fini(parser, on_cell, on_row, reader) != 0 || reader->status != VKL_OK)
        return parse_error(reader, parser);
    if (reader->in_header)
        return vkl_fail(reader->context, NULL, VKL_ERROR_FORMAT, "%s: the file is empty; a header line and rows are needed",
                        reader->table->path);
    if (!reader->table->rows)
        return vkl_fail(reader->context, NULL, VKL_ERROR_FORMAT, "%s:%llu: no rows follow the header", reader->table->path,
                        (unsigned long long)reader->row_line);
    return VKL_OK;
}

VklStatus vkl_table_read_csv(VklContext *context, const char *path, VklTable **table)
{
    if (!path || !table)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_table_read_csv: %s is NULL", path ? "table" : "path");
    char reason[VKL_ERRNO_SIZE];
    FILE *file = vkl_system_open(&context->desc.memory, path);
    if (!file)
        return vkl_fail(context, NULL, VKL_ERROR_IO, "%s: cannot be opened: %s", path, vkl_errno_text(errno, reason));

    VklStatus status = VKL_ERROR_HOST_MEMORY;
    Reader reader = {.context = context, .in_header = true, .between_rows = true, .line = 1, .row_line = 1};
    struct csv_parser parser;
    bool parsing = false;
    reader.locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    reader.table = vkl_allocate(&context->desc.memory, 1, sizeof(*reader.table));
    if (reader.table)
        reader.table->path = vkl_copy_text(&context->desc.memory, path);
    if (reader.locale != (locale_t)0 && reader.table && reader.table->path)
        parsing = csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI | CSV_APPEND_NULL) == 0;
    if (parsing)
        status = read_file(&reader, &parser, file);
    else
        vkl_fail(context, NULL, status, "%s: no memory to read it", path);

    if (parsing)
        csv_free(&parser);
    if (reader.locale != (locale_t)0)
        freelocale(reader.locale);
    fclose(file);
    if (status != VKL_OK) {
        vkl_table_destroy(reader.table);
        return status;
    }
    if (!reader.labelled) {
        vkl_release(reader.table->labels);
        vkl_release(reader.table->label_text);
        reader.table->labels = NULL;
        reader.table->label_text = NULL;
    }
    *table = reader.table;
    return VKL_OK;
}

#else

VklStatus vkl_table_read_csv(VklContext *context, const char *path, VklTable **table)
{
    if (!path || !table)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_table_read_csv: %s is NULL", path ? "table" : "path");
    return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED, "%s: this build of vklstm has no CSV reader (libcsv)", path);
}

#endif
