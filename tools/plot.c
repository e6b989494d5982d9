/* SPDX-License-Identifier: MIT */
#include "plot.h"

#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "message.h"
#include "ticks.h"

extern char **environ;

#define DATE_TICKS 9
#define LABEL_ROOM 0.1    /* of the width, for the word beside a mark */
#define DENSE_POINTS 1500 /* more than one a pixel: thinner lines */

/* Colours that remain different for colour-blind eyes (Okabe and Ito 2008), and how wide the lines are. */
static const struct {
    const char *color;
    double width;
} styles[] = {
    [PLOT_OBSERVED] = {"#6b7280", 1.6},
    [PLOT_TRAIN] = {"#0072b2", 1.6},
    [PLOT_VALIDATION] = {"#e69f00", 1.8},
    [PLOT_FORECAST] = {"#d55e00", 2.2},
};

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length > tail && strcmp(text + length - tail, end) == 0;
}

/* Looks as execvp() does. */
static bool in_path(const char *program)
{
    const char *path = getenv("PATH");
    char name[4096];
    for (const char *folder = path ? path : "/usr/bin:/bin"; folder; folder = strchr(folder, ':')) {
        folder += *folder == ':';
        int length = (int)strcspn(folder, ":");
        struct stat info;
        int needed = snprintf(name, sizeof name, "%.*s/%s", length ? length : 1, length ? folder : ".", program);
        if (needed < (int)sizeof name && access(name, X_OK) == 0 && stat(name, &info) == 0 && S_ISREG(info.st_mode))
            return true;
    }
    return false;
}

int plot_check(const char *path)
{
    if (!ends_in(path, ".svg") && !ends_in(path, ".png"))
        return fail_usage("--plot: %s ends neither in .svg nor in .png", path);
    if (!in_path("gnuplot"))
        return fail("--plot: gnuplot is not installed or not in PATH; plots need it");
    return EXIT_OK;
}

void plot_add(Plot *plot, PlotSeries series)
{
    if (plot->series_count < PLOT_SERIES_MAX)
        plot->series[plot->series_count++] = series;
}

void plot_mark(Plot *plot, uint64_t row, const char *text)
{
    if (plot->mark_count < PLOT_MARKS_MAX)
        plot->marks[plot->mark_count++] = (PlotMark){row, text};
}

void plot_number(double value, char *text, size_t size)
{
    if (fabs(value) >= 99.95)
        snprintf(text, size, "%.0f", value);
    else
        snprintf(text, size, "%#.3g", value);
}

/* A gnuplot string in single quotes, in which only the quote itself is special. */
static void print_quoted(FILE *script, const char *text)
{
    fputc('\'', script);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', script);
        fputc((unsigned char)*text < 0x20 ? ' ' : *text, script);
    }
    fputc('\'', script);
}

static uint64_t series_row(const PlotSeries *series, uint64_t i)
{
    return series->rows ? series->rows[i] : series->first + i;
}

/* Blank lines break a curve where values or rows are missing. */
static void print_data(FILE *script, const Plot *plot, size_t index)
{
    const PlotSeries *series = &plot->series[index];
    fprintf(script, "$data%zu << END\n", index);
    bool broken = true, any = false;
    for (uint64_t i = 0; i < series->count; i++) {
        uint64_t row = series_row(series, i);
        bool gap = i > 0 && row != series_row(series, i - 1) + 1;
        if ((gap || !isfinite(series->values[i])) && !broken) {
            fputc('\n', script);
            broken = true;
        }
        if (isfinite(series->values[i])) {
            fprintf(script, "%.0f %.9g\n", timeline_position(plot->timeline, row), series->values[i]);
            broken = false;
            any = true;
        }
    }
    if (!any)
        fprintf(script, "NaN NaN\n"); /* gnuplot refuses to draw nothing */
    fprintf(script, "END\n");
}

static void plot_range(const Plot *plot, double *begin, double *end)
{
    *begin = INFINITY;
    *end = -INFINITY;
    for (size_t i = 0; i < plot->series_count; i++) {
        const PlotSeries *series = &plot->series[i];
        if (series->count == 0)
            continue;
        *begin = fmin(*begin, timeline_position(plot->timeline, series_row(series, 0)));
        *end = fmax(*end, timeline_position(plot->timeline, series_row(series, series->count - 1)));
    }
    if (!(*begin < *end)) { /* one point, or none */
        *begin = isfinite(*begin) ? *begin - 1 : 0;
        *end = *begin + 2;
    }
}

/* The dashed lines. What begins with the last one is what matters: a light ground sets it off. */
static void print_marks(FILE *script, const Plot *plot, double begin, double end, double edge)
{
    double last = -INFINITY;
    for (size_t i = 0; i < plot->mark_count; i++) {
        const PlotMark *mark = &plot->marks[i];
        double after = timeline_position(plot->timeline, mark->row);
        double at = mark->row > 0 ? (timeline_position(plot->timeline, mark->row - 1) + after) / 2 : after;
        double height = at - last < LABEL_ROOM * (end - begin) ? 0.915 : 0.965; /* not over the word of the line before */
        if (i + 1 == plot->mark_count)
            fprintf(script,
                    "set object rectangle from %.17g, graph 0 to %.17g, graph 1 behind fillcolor rgb '#f6f7f9' fillstyle solid "
                    "noborder\n",
                    at, edge);
        fprintf(script,
                "set arrow from %.17g, graph 0 to %.17g, graph 1 nohead dashtype 2 linewidth 1.4 linecolor rgb '#4b5563'\n", at,
                at);
        fputs("set label ", script);
        print_quoted(script, mark->text);
        bool left = at > end - LABEL_ROOM * (end - begin); /* no room on the right */
        fprintf(script, " at %.17g, graph %g offset %g, 0 %s textcolor rgb '#4b5563'\n", at, height, left ? -0.6 : 0.6,
                left ? "right" : "left");
        last = at;
    }
}

static void print_axes(FILE *script, const Plot *plot, int title_size)
{
    double begin, end;
    plot_range(plot, &begin, &end);
    double margin = (end - begin) * 0.01;
    fputs("set border 3 linecolor rgb '#9ca3af'\n"
          "set tics nomirror out scale 0.6 textcolor rgb '#374151'\n"
          "set grid xtics ytics back linetype 1 linecolor rgb '#e5e7eb' linewidth 1\n"
          "set offsets graph 0, graph 0, graph 0.08, graph 0.03\n"
          "set yrange [*:*] noextend\n"
          "set lmargin 11\nset rmargin 3\nset tmargin at screen 0.84\n"
          "set key at graph 0, screen 0.92 left top horizontal Left reverse samplen 2 maxrows 1 textcolor rgb '#374151'\n",
          script);
    fprintf(script, "set xrange [%.17g:%.17g]\n", begin - margin, end + margin);
    if (plot->timeline->form != TIME_NONE) {
        fputs("set xtics ", script);
        ticks_print(script, begin, end, DATE_TICKS);
        fputc('\n', script);
    } else {
        fputs("set format x '%.0f'\n", script);
    }
    fputs("set ylabel ", script);
    print_quoted(script, plot->y_label);
    fputs(" textcolor rgb '#374151' offset -1\nset xlabel ", script);
    print_quoted(script, plot->x_label);
    fputs(" textcolor rgb '#374151'\nset label ", script);
    print_quoted(script, plot->title); /* a label, because a title cannot stand on the left */
    fprintf(script, " at graph 0, screen 0.955 left font ',%d' textcolor rgb '#111827'\n", title_size);
    print_marks(script, plot, begin, end, end + margin);
}

static void print_script(FILE *script, const Plot *plot, bool svg)
{
    if (svg)
        fputs("set terminal svg noenhanced size 1200,600 font 'DejaVu Sans,Helvetica,Arial,sans-serif,15' linewidth 1 "
              "background '#ffffff'\n",
              script);
    else
        fputs("set terminal pngcairo noenhanced size 1200,600 font 'DejaVu Sans,12' linewidth 1.2 background '#ffffff'\n",
              script);
    fputs("set encoding utf8\n", script);
    for (size_t i = 0; i < plot->series_count; i++)
        print_data(script, plot, i);
    print_axes(script, plot, svg ? 19 : 15);
    fputs("plot ", script);
    for (size_t i = 0; i < plot->series_count; i++) {
        const PlotSeries *series = &plot->series[i];
        fprintf(script, "%s$data%zu using 1:2 with %s linetype 1 linewidth %g linecolor rgb '%s' title ", i ? ", " : "", i,
                series->count < 3 ? "linespoints pointtype 7 pointsize 0.8" : "lines",
                styles[series->color].width * (plot->series[0].count > DENSE_POINTS ? 0.6 : 1), styles[series->color].color);
        print_quoted(script, series->name);
    }
    fputc('\n', script);
}

/* Runs gnuplot with the three files as its standard ones. Files, not pipes: nobody has to read while he writes. Returns its exit
 * status, or -1 with errno. */
static int run_gnuplot(FILE *script, FILE *picture, FILE *errors)
{
    char *const arguments[] = {"gnuplot", "-d", "-", NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status, error = posix_spawn_file_actions_init(&actions);
    if (error) {
        errno = error;
        return -1;
    }
    posix_spawn_file_actions_adddup2(&actions, fileno(script), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(picture), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(errors), STDERR_FILENO);
    error = posix_spawnp(&child, "gnuplot", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error) {
        errno = error;
        return -1;
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* gnuplot's complaint: the line of its errors that says what is wrong stands last. */
static int fail_gnuplot(FILE *errors, int status)
{
    char line[256], last[256] = "";
    if (status < 0)
        return fail("gnuplot cannot be run: %s", strerror(errno));
    rewind(errors);
    while (fgets(line, sizeof line, errors)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[strspn(line, " ^\t")])
            memcpy(last, line, sizeof last);
    }
    return fail("gnuplot failed with exit status %d: %s", status, last[0] ? last : "it did not say why");
}

int plot_write(const Plot *plot, const char *path)
{
    Output output;
    int status = output_open(&output, path);
    if (status != EXIT_OK)
        return status;
    FILE *script = tmpfile(), *errors = tmpfile();
    struct stat written;
    if (!script || !errors) {
        status = fail("a temporary file for gnuplot cannot be made: %s", strerror(errno));
    } else {
        print_script(script, plot, ends_in(path, ".svg"));
        if (fflush(script) != 0 || ferror(script)) {
            status = fail("a temporary file for gnuplot cannot be written: %s", strerror(errno));
        } else {
            rewind(script);
            int code = run_gnuplot(script, output.file, errors);
            bool empty = output.temporary && fstat(fileno(output.file), &written) == 0 && written.st_size == 0;
            if (code != 0 || empty)
                status = fail_gnuplot(errors, code);
        }
    }
    if (script)
        fclose(script);
    if (errors)
        fclose(errors);
    if (status == EXIT_OK)
        return output_commit(&output);
    output_discard(&output);
    return status;
}
