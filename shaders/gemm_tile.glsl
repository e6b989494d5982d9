/* SPDX-License-Identifier: MIT
 *
 * A workgroup computes a tile of C. It walks along the sum DEPTH terms at a time: they are loaded into registers while the terms before are
 * multiplied, and then put into shared memory, both operands as [term][row of the operand], so that what an invocation needs of a term is a
 * few vectors of four side by side. The invocation's block of C is made of 4 x 4 squares as far apart as can be, so that neighbours read
 * neighbouring vectors; it takes the outer product of a column of A and a row of B, whose multiply-adds do not wait for each other.
 * What compilers make of it, and which shape suits which: docs/performance.md. */

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint form = VKL_GEMM_NN;
layout(constant_id = VKL_GEMM_SPEC_ROWS) const uint ROWS = 64;
layout(constant_id = VKL_GEMM_SPEC_COLUMNS) const uint COLUMNS = 64;
layout(constant_id = VKL_GEMM_SPEC_DEPTH) const uint DEPTH = 16;
layout(constant_id = VKL_GEMM_SPEC_ROW_BLOCK) const uint ROW_BLOCK = 8;
layout(constant_id = VKL_GEMM_SPEC_COLUMN_BLOCK) const uint COLUMN_BLOCK = 4;
layout(constant_id = VKL_GEMM_SPEC_UNROLL) const uint UNROLL = 4;
layout(constant_id = VKL_GEMM_SPEC_VARIANT) const uint variant = VKL_GEMM_EDGE;

const bool WIDE_A = (variant & VKL_GEMM_WIDE_A) != 0u;
const bool WIDE_B = (variant & VKL_GEMM_WIDE_B) != 0u;
const bool WIDE_C = (variant & VKL_GEMM_WIDE_C) != 0u;
const bool EDGE = (variant & VKL_GEMM_EDGE) != 0u;
const bool PIECES = (variant & VKL_GEMM_PIECES) != 0u;

const uint ACROSS = COLUMNS / COLUMN_BLOCK; /* invocations */
const uint INVOCATIONS = ROWS / ROW_BLOCK * ACROSS;
const uint A_COUNT = ROWS * DEPTH / INVOCATIONS; /* numbers of A that an invocation loads at a time */
const uint B_COUNT = COLUMNS * DEPTH / INVOCATIONS;

/* Rows and columns of squares in a block, and from one to the next. */
const uint SQUARES_DOWN = ROW_BLOCK / 4u, SQUARES_ACROSS = COLUMN_BLOCK / 4u;
const uint STEP_DOWN = ROWS / SQUARES_DOWN, STEP_ACROSS = COLUMNS / SQUARES_ACROSS;

/* In vectors, a row of A and one of B beside each other. One more makes the terms begin in different banks. */
const uint B_BEGIN = ROWS / 4u;
const uint TERM = B_BEGIN + COLUMNS / 4u + 1u;

layout(binding = 0) readonly buffer A { float a[]; };
layout(binding = 0) readonly buffer AWide { vec4 a_wide[]; };
layout(binding = 1) readonly buffer B { float b[]; };
layout(binding = 1) readonly buffer BWide { vec4 b_wide[]; };
layout(binding = 2) buffer C { float c[]; };
layout(binding = 2) buffer CWide { vec4 c_wide[]; };
layout(binding = 3) readonly buffer Bias { float bias[]; }; /* or the second A */
layout(binding = 3) readonly buffer BiasWide { vec4 bias_wide[]; };
layout(push_constant) uniform Push { VklGemmArgs args; };

shared vec4 tile[DEPTH * TERM];

/* Loaded, but not yet in shared memory. */
float next[A_COUNT + B_COUNT];

/* ---- Operands ----
 * An operand is a matrix [row][term] (`along`: terms lie side by side) or [term][row]. An invocation loads `count` numbers of it: by four where
 * they are wide, else one by one, such that neighbours load neighbours. Along terms, it has one term (or four) of several rows; else
 * one row (or four) of several terms. Rows beyond the matrix repeat its last: they end in elements of C that are not stored. Terms beyond
 * the sum, in its first step alone, are zeros. */

#define SOURCE_A 0u
#define SOURCE_B 1u
#define SOURCE_SECOND 2u
#define SOURCE_ONES 3u

float load1(uint source, uint at)
{
    return source == SOURCE_A ? a[at] : source == SOURCE_B ? b[at] : bias[at];
}

vec4 load4(uint source, uint at)
{
    return source == SOURCE_A ? a_wide[at] : source == SOURCE_B ? b_wide[at] : bias_wide[at];
}

/* first: its number in next[]; begin: its vector in tile[]; the constant rows is that of the tile, valid what the matrix has of it. Positions
 * are in vectors where the operand is wide. */
struct Operand {
    uint source;
    uint at;   /* of the first number of this invocation in the next step */
    uint ld;   /* from one row (along) or term to the next */
    uint last; /* along: the last row that is there, as seen from its first */
    uint gap;  /* wide: from its first vector to its second; there are no more */
};

/* Which row and term are this invocation's first ones; how far it is to its next. */
#define ALONG_SPAN(wide) (wide ? DEPTH / 4u : DEPTH)
#define ACROSS_SPAN(rows, wide) (wide ? rows / 4u : rows)

/* `whole`: all terms are there. */
void load(Operand operand, uint source, bool along, bool wide, uint rows, uint first, uint count, bool whole, uint terms)
{
    uint local = gl_LocalInvocationID.x, loads = wide ? count / 4u : count;
    uint span = along ? ALONG_SPAN(wide) : ACROSS_SPAN(rows, wide), step = INVOCATIONS / span;
    uint term = along ? (wide ? local % span * 4u : local % span) : local / span;
    [[unroll]] for (uint i = 0u; i < loads; i++) {
        uint far = i * step;
        if (EDGE && along)
            far = far < operand.last ? far : operand.last;
        bool there = whole || (along ? term : term + i * step) < terms;
        if (wide) {
            vec4 loaded = vec4(0.0);
            if (there)
                loaded = load4(source, operand.at + i * operand.gap);
            [[unroll]] for (uint j = 0u; j < 4u; j++)
                next[first + i * 4u + j] = loaded[j];
        } else {
            float loaded = 0.0;
            if (there)
                loaded = load1(source, operand.at + far * operand.ld);
            next[first + i] = loaded;
        }
    }
}

void load_a(Operand operand, bool whole, uint terms)
{
    if (!PIECES || operand.source == SOURCE_A)
        load(operand, SOURCE_A, form != VKL_GEMM_TN, WIDE_A, ROWS, 0u, A_COUNT, whole, terms);
    else if (operand.source == SOURCE_SECOND)
        load(operand, SOURCE_SECOND, false, WIDE_A, ROWS, 0u, A_COUNT, whole, terms);
    else
        [[unroll]] for (uint i = 0u; i < A_COUNT; i++)
            next[i] = 1.0;
}

void load_b(Operand operand, bool whole, uint terms)
{
    load(operand, SOURCE_B, form == VKL_GEMM_NT, WIDE_B, COLUMNS, A_COUNT, B_COUNT, whole, terms);
}

void store(bool along, bool wide, uint rows, uint first, uint count, uint begin)
{
    uint local = gl_LocalInvocationID.x, loads = wide ? count / 4u : count;
    uint span = along ? ALONG_SPAN(wide) : ACROSS_SPAN(rows, wide), step = INVOCATIONS / span;
    [[unroll]] for (uint i = 0u; i < loads; i++) {
        uint other = local / span + i * step, mine = local % span;
        if (wide && along) {
            [[unroll]] for (uint j = 0u; j < 4u; j++)
                tile[begin + (mine * 4u + j) * TERM + other / 4u][other % 4u] = next[first + i * 4u + j];
        } else if (wide) {
            uint from = first + i * 4u;
            tile[begin + other * TERM + mine] = vec4(next[from], next[from + 1u], next[from + 2u], next[from + 3u]);
        } else if (along) {
            tile[begin + mine * TERM + other / 4u][other % 4u] = next[first + i];
        } else {
            tile[begin + other * TERM + mine / 4u][mine % 4u] = next[first + i];
        }
    }
}

/* From the first number of the matrix, terms from `k` on, to that of the invocation. */
Operand operand_begin(uint source, uint at, uint ld, uint row0, uint k, uint valid, bool along, bool wide, uint rows)
{
    uint local = gl_LocalInvocationID.x, span = along ? ALONG_SPAN(wide) : ACROSS_SPAN(rows, wide);
    uint mine = local % span, other = local / span, unit = wide ? 4u : 1u, step = INVOCATIONS / span;
    Operand operand = Operand(source, 0u, wide ? ld / 4u : ld, 0u, 0u);
    operand.gap = step * operand.ld;
    if (along) {
        uint row = row0 + other;
        if (EDGE) {
            row = row < valid ? row : valid - 1u;
            operand.last = valid - 1u - row;
            operand.gap = (step < operand.last ? step : operand.last) * operand.ld;
        }
        operand.at = (at + k) / unit + row * operand.ld + mine;
    } else {
        uint row = row0 + mine * unit;
        if (EDGE)
            row = row < valid ? row : valid - unit;
        operand.at = (at + row) / unit + (k + other) * operand.ld;
    }
    return operand;
}

void operand_advance(inout Operand operand, bool along, bool wide, uint terms)
{
    operand.at += along ? (wide ? terms / 4u : terms) : terms * operand.ld;
}

Operand a_begin(uint row0, uint k)
{
    if (form != VKL_GEMM_TN || !PIECES)
        return operand_begin(SOURCE_A, args.off0, args.lda, row0, k, args.m, form != VKL_GEMM_TN, WIDE_A, ROWS);
    uint span = ACROSS_SPAN(ROWS, WIDE_A), row = row0 + gl_LocalInvocationID.x % span * (WIDE_A ? 4u : 1u);
    uint plain = args.m - args.ones;
    if (row < args.m_first)
        return operand_begin(SOURCE_A, args.off0, args.lda, row0, k, args.m_first, false, WIDE_A, ROWS);
    if (row < plain)
        return operand_begin(SOURCE_SECOND, args.off3 - args.m_first, args.lda_second, row0, k, plain, false, WIDE_A, ROWS);
    return Operand(SOURCE_ONES, 0u, 0u, 0u, 0u);
}

/* ---- */

vec4 sum[ROW_BLOCK * SQUARES_ACROSS]; /* [row][square]; an array of arrays stays in memory with NVK */

void multiply_term(uint k, uint down, uint across)
{
    vec4 x[SQUARES_DOWN], y[SQUARES_ACROSS];
    [[unroll]] for (uint i = 0u; i < SQUARES_DOWN; i++)
        x[i] = tile[k * TERM + down + i * (STEP_DOWN / 4u)];
    [[unroll]] for (uint j = 0u; j < SQUARES_ACROSS; j++)
        y[j] = tile[k * TERM + B_BEGIN + across + j * (STEP_ACROSS / 4u)];
    [[unroll]] for (uint i = 0u; i < ROW_BLOCK; i++)
        [[unroll]] for (uint j = 0u; j < SQUARES_ACROSS; j++)
            sum[i * SQUARES_ACROSS + j] = x[i / 4u][i % 4u] * y[j] + sum[i * SQUARES_ACROSS + j];
}

vec4 bias_at(uint column)
{
    vec4 bias_sum = vec4(0.0);
    for (uint r = 0u; r < args.bias_rows; r++) {
        uint at = args.off3 + r * args.n + column;
        if (WIDE_C)
            bias_sum += bias_wide[at / 4u];
        else
            [[unroll]] for (uint j = 0u; j < 4u; j++)
                if (!EDGE || column + j < args.n)
                    bias_sum[j] += bias[at + j];
    }
    return bias_sum;
}

/* Four numbers of a row of C, as far as they are there. */
vec4 c_get(uint at, uint column)
{
    if (WIDE_C)
        return c_wide[at / 4u];
    vec4 value = vec4(0.0);
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        if (!EDGE || column + j < args.n)
            value[j] = c[at + j];
    return value;
}

void c_put(uint at, uint column, vec4 value)
{
    if (WIDE_C) {
        c_wide[at / 4u] = value;
        return;
    }
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        if (!EDGE || column + j < args.n)
            c[at + j] = value[j];
}

void main()
{
    uint local = gl_LocalInvocationID.x;
    uint row0 = gl_WorkGroupID.y * ROWS, column0 = gl_WorkGroupID.x * COLUMNS;
    uint k0 = gl_WorkGroupID.z * args.slice_k;
    uint terms = args.k - k0 < args.slice_k ? args.k - k0 : args.slice_k;
    bool a_along = form != VKL_GEMM_TN, b_along = form == VKL_GEMM_NT;
    uint down = local / ACROSS, across = local % ACROSS; /* in squares */

    [[unroll]] for (uint i = 0u; i < ROW_BLOCK * SQUARES_ACROSS; i++)
        sum[i] = vec4(0.0);

    /* The step that is not whole comes first, so that the loop need not look. */
    uint done = EDGE ? (terms - 1u) % DEPTH + 1u : DEPTH;
    Operand a_operand = a_begin(row0, k0);
    Operand b_operand = operand_begin(SOURCE_B, args.off1, args.ldb, column0, k0, args.n, b_along, WIDE_B, COLUMNS);
    load_a(a_operand, !EDGE, done);
    load_b(b_operand, !EDGE, done);
    operand_advance(a_operand, a_along, WIDE_A, done);
    operand_advance(b_operand, b_along, WIDE_B, done);

    [[dont_unroll]] for (;;) {
        store(a_along, WIDE_A, ROWS, 0u, A_COUNT, 0u);
        store(b_along, WIDE_B, COLUMNS, A_COUNT, B_COUNT, B_BEGIN);
        barrier();
        bool more = done < terms;
        if (more) {
            load_a(a_operand, true, DEPTH);
            load_b(b_operand, true, DEPTH);
            operand_advance(a_operand, a_along, WIDE_A, DEPTH);
            operand_advance(b_operand, b_along, WIDE_B, DEPTH);
            done += DEPTH;
        }
        if (UNROLL == DEPTH) {
            [[unroll]] for (uint k = 0u; k < DEPTH; k++)
                multiply_term(k, down, across);
        } else {
            [[dont_unroll]] for (uint k = 0u; k < DEPTH; k += UNROLL)
                [[unroll]] for (uint u = 0u; u < UNROLL; u++)
                    multiply_term(k + u, down, across);
        }
        if (!more)
            break;
        barrier();
    }

    uint c_at = args.off2 + gl_WorkGroupID.z * args.slice_c;
    uint first_row = row0 + down * 4u, first_column = column0 + across * 4u;
    [[unroll]] for (uint j = 0u; j < SQUARES_ACROSS; j++) {
        uint column = first_column + j * STEP_ACROSS;
        if (EDGE && column >= args.n)
            continue;
        vec4 bias_sum = bias_at(column);
        [[unroll]] for (uint square = 0u; square < SQUARES_DOWN; square++) {
            uint row = first_row + square * STEP_DOWN, at = c_at + row * args.ldc + column;
            uint rows = !EDGE ? 4u : row < args.m ? args.m - row : 0u;
            vec4 value[4];
            [[unroll]] for (uint i = 0u; i < 4u; i++)
                value[i] = sum[(square * 4u + i) * SQUARES_ACROSS + j] + bias_sum;
            if (args.accumulate != 0u) /* four at a time: more would cost registers that the loop has no use for */
                [[unroll]] for (uint i = 0u; i < 4u; i++)
                    if (!EDGE || i < rows)
                        value[i] = c_get(at + i * args.ldc, column) + value[i];
            [[unroll]] for (uint i = 0u; i < 4u; i++)
                if (!EDGE || i < rows)
                    c_put(at + i * args.ldc, column, value[i]);
        }
    }
    if (args.activation == ACTIVATION_NONE)
        return;
    /* Each invocation goes over its own elements once more: an activation for each sum, written out, would be most of the code. */
    [[dont_unroll]] for (uint i = 0u; i < ROW_BLOCK * COLUMN_BLOCK; i++) {
        uint row = first_row + i / COLUMN_BLOCK / 4u * STEP_DOWN + i / COLUMN_BLOCK % 4u;
        uint column = first_column + i % COLUMN_BLOCK / 4u * STEP_ACROSS + i % 4u;
        uint at = c_at + row * args.ldc + column;
        if (EDGE && (row >= args.m || column >= args.n))
            continue;
        if (WIDE_C)
            c_wide[at / 4u][at % 4u] = activate(args.activation, c_wide[at / 4u][at % 4u]);
        else
            c[at] = activate(args.activation, c[at]);
    }
}
