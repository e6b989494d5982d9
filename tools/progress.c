/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"

#define DRAW_SECONDS 0.1 /* between two drawings of the bar */
#define LINE_SECONDS 10  /* a line at least so often, and so many lines in all */
#define LINES 10
#define BAR_WIDTH 30

void duration_text(double seconds, char text[DURATION_SIZE])
{
    if (!isfinite(seconds) || seconds > 3.6e8) {
        snprintf(text, DURATION_SIZE, "?");
        return;
    }
    long whole = (long)(seconds + 0.5);
    if (seconds < 9.95)
        snprintf(text, DURATION_SIZE, "%.1f s", seconds);
    else if (whole < 60)
        snprintf(text, DURATION_SIZE, "%ld s", whole);
    else if (whole < 3600)
        snprintf(text, DURATION_SIZE, "%ld:%02ld min", whole / 60, whole % 60);
    else
        snprintf(text, DURATION_SIZE, "%ld:%02ld:%02ld h", whole / 3600, whole / 60 % 60, whole % 60);
}

void progress_begin(Progress *progress, bool quiet)
{
    const char *terminal = getenv("TERM");
    memset(progress, 0, sizeof *progress);
    progress->quiet = quiet;
    progress->terminal = isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0;
    progress->line_at = 1;
    progress->drawn_at = -DRAW_SECONDS;
    progress->begun = clock_seconds();
}

static int terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* "950", "1.2k", "34k" */
static void rate_text(double rate, char *text, size_t size)
{
    const char *unit = rate >= 999.5e3 ? "M" : rate >= 999.5 ? "k" : "";
    double scaled = rate >= 999.5e3 ? rate / 1e6 : rate >= 999.5 ? rate / 1e3 : rate;
    snprintf(text, size, "%.*f%s", scaled < 9.95 ? 1 : 0, scaled, unit);
}

static void losses_text(const Progress *progress, char *text, size_t size)
{
    if (!progress->known)
        snprintf(text, size, "loss -");
    else if (isnan(progress->validation_loss))
        snprintf(text, size, "loss %.4g", progress->loss);
    else
        snprintf(text, size, "loss %.4g, validation %.4g", progress->loss, progress->validation_loss);
}

static void draw(Progress *progress)
{
    const VklProgress *now = &progress->now;
    double steps = (double)now->steps > 0 ? (double)now->steps : 1;
    double done = (double)(now->epoch - 1) * steps + (double)now->step, all = (double)now->epochs * steps;
    double rate = now->seconds > 0 ? done / now->seconds : 0;
    char bar[BAR_WIDTH + 1], losses[96], speed[32], left[DURATION_SIZE], line[512];
    int filled = (int)(done / all * BAR_WIDTH);
    filled = filled > BAR_WIDTH ? BAR_WIDTH : filled;
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)filled);
    bar[BAR_WIDTH] = '\0';
    losses_text(progress, losses, sizeof losses);
    rate_text(rate, speed, sizeof speed);
    duration_text(rate > 0 ? (all - done) / rate : INFINITY, left);
    int length = snprintf(line, sizeof line, "epoch %llu/%llu [%s] %s, %s steps/s, %s left", (unsigned long long)now->epoch,
                          (unsigned long long)now->epochs, bar, losses, speed, left);
    int width = terminal_width() - 1, excess = length - width;
    if (excess > 0 && excess <= BAR_WIDTH - 5) { /* a narrow terminal gets a shorter bar; a very narrow one the beginning */
        int kept = BAR_WIDTH - excess;
        bar[kept] = '\0';
        memset(bar, '.', (size_t)kept);
        memset(bar, '#', (size_t)(filled * kept / BAR_WIDTH));
        snprintf(line, sizeof line, "epoch %llu/%llu [%s] %s, %s steps/s, %s left", (unsigned long long)now->epoch,
                 (unsigned long long)now->epochs, bar, losses, speed, left);
    }
    fprintf(stderr, "\r%.*s\033[K", width > 0 ? width : 0, line);
    fflush(stderr);
    progress->drawn = true;
    progress->drawn_at = now->seconds;
}

void progress_step(Progress *progress, const VklProgress *now)
{
    progress->now = *now;
    if (!progress->quiet && progress->terminal && now->seconds - progress->drawn_at >= DRAW_SECONDS)
        draw(progress);
}

void progress_epoch(Progress *progress, const VklEpoch *epoch, uint64_t epochs)
{
    progress->known = true;
    progress->loss = epoch->loss;
    progress->validation_loss = epoch->validation_loss;
    progress->now.epoch = epoch->epoch;
    progress->now.epochs = epochs;
    progress->now.step = progress->now.steps;
    progress->now.seconds = epoch->seconds;
    if (progress->now.steps == 0) /* no report of steps yet: an epoch counts as one */
        progress->now.step = progress->now.steps = 1;
    if (progress->quiet)
        return;
    bool last = epoch->epoch == epochs;
    if (progress->terminal) {
        if (last || epoch->seconds - progress->drawn_at >= DRAW_SECONDS)
            draw(progress);
        return;
    }
    if (epoch->epoch < progress->line_at && !last && epoch->seconds - progress->line_seconds < LINE_SECONDS)
        return;
    char losses[96], time[DURATION_SIZE];
    losses_text(progress, losses, sizeof losses);
    duration_text(epoch->seconds, time);
    fprintf(stderr, "epoch %llu/%llu: %s, %s\n", (unsigned long long)epoch->epoch, (unsigned long long)epochs, losses, time);
    uint64_t interval = epochs / LINES > 0 ? epochs / LINES : 1;
    progress->line_at = (epoch->epoch / interval + 1) * interval;
    progress->line_seconds = epoch->seconds;
}

void progress_piece(Progress *progress, const char *part, const char *name, uint64_t done, uint64_t all)
{
    const double seconds = clock_seconds() - progress->begun;
    const bool begins = !progress->part || strcmp(progress->part, part) != 0;
    char bar[BAR_WIDTH + 1], left[DURATION_SIZE], line[512];
    progress->part = part;
    if (progress->quiet || (progress->terminal ? seconds - progress->drawn_at < DRAW_SECONDS : !begins))
        return;
    duration_text(seconds, left);
    if (!progress->terminal) {
        fprintf(stderr, "%s: from case %llu of %llu, after %s\n", part, (unsigned long long)done + 1, (unsigned long long)all,
                left);
        return;
    }
    duration_text(done ? seconds / (double)done * (double)(all - done) : INFINITY, left);
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)((double)done / (double)all * BAR_WIDTH));
    bar[BAR_WIDTH] = '\0';
    snprintf(line, sizeof line, "%llu/%llu [%s] %s left, %s: %s", (unsigned long long)done, (unsigned long long)all, bar, left,
             part, name);
    int width = terminal_width() - 1;
    fprintf(stderr, "\r%.*s\033[K", width > 0 ? width : 0, line);
    fflush(stderr);
    progress->drawn = true;
    progress->drawn_at = seconds;
}

void progress_end(Progress *progress)
{
    if (progress->drawn && progress->part) {
        fprintf(stderr, "\r\033[K"); /* the report says it all */
    } else if (progress->drawn) {
        draw(progress);
        fputc('\n', stderr);
    }
    progress->drawn = false;
}
