#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the compilers of four vendors make of the kernels that the planner picks for their chips, without the chips.

usage: isa.py BUILD OUT [--mesa25 PREFIX] [--mesa26 PREFIX --shims DIR] [--chip TEXT]... [--kernel TEXT]... [--foreign DIR]
              [--markdown] [--summary] [--kernels] [--brief] [--check] [--selftest] [--jobs N]

BUILD is a build directory with tests/variants and tests/statistics; OUT takes, for each chip, rows.txt (what is compiled) and a listing for each
row. PREFIX comes from mesa-prefix.sh, DIR from shims.sh; without them RADV of Debian 12 alone is run.

--chip, --kernel   those alone whose names contain TEXT
--foreign          shaders that are not ours, for comparison: DIR/NAME.spv, and DIR/rows.txt with rows as `variants` prints them, in which @$W
                   becomes the size of subgroups that ours ask for, if they do, $W that or the usual one, and $WW twice that
A table of everything is printed, or
--markdown         the same for a document
--summary          a row for each chip: the largest tile of GEMM
--kernels          a row for each kernel, a column for each chip
--brief            plain layers alone, without the table of options
--check            a line for each chip, and one for each gate that it misses
--selftest         with --check: vklstm selftest --compile-only too, where a shim has the chip's memory

Exit status: 0; 1 a gate is missed; 2 wrong usage; 77 nothing could be run here.
"""

import argparse
import functools
import glob
import json
import os
import pathlib
import re
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True  # the source directory may be anybody's

from listing import Loop

# name, driver of the loader's manifest, variable that names the chip, shim, which Mesa ('' is the system's), chips
Compiler = namedtuple('Compiler', 'name driver variable shim mesa chips')
COMPILERS = [
    Compiler('RADV 22', 'radeon', 'RADV_FORCE_FAMILY', None, '', 'polaris10 vega10 navi10 navi21 gfx1100'),
    Compiler('RADV 25', 'radeon', 'RADV_FORCE_FAMILY', None, '25', 'navi21 navi31 gfx1201'),
    Compiler('RADV 26', 'radeon', 'AMDGPU_GPU_ID', 'amdgpu', '26', 'polaris10 vega10 navi10 navi21 navi31 gfx1150'),
    Compiler('ANV 26', 'intel', 'INTEL_STUB_GPU_PLATFORM', 'intel', '26', 'skl tgl dg2 mtl lnl bmg'),
    Compiler('NVK 26', 'nouveau', 'NOUVEAU_CHIPSET', 'nouveau', '26', '120 132 140 162 172 192 1b2'),
    Compiler('Turnip 26', 'freedreno', 'FD_GPU_ID', 'freedreno', '26', '630 660 740'),
]

# Where the whole command starts: RADV without a shim has no memory, and Turnip's shim creates no device for it.
COMPLETE_SHIMS = ('amdgpu', 'intel', 'nouveau')

# What drivers call the same thing.
NAMES = {
    'registers': ('VGPRs', 'Max live registers', 'Number of GPRs', 'Registers used'),
    'shared': ('LDS size', 'LDS Size', 'Workgroup Memory Size'),
    'occupancy': ('Subgroups per SIMD', 'Max warps/SM', 'Max Waves Per Core'),
    'instructions': ('Instructions', 'Instruction count', 'Instruction Count'),
    'cycles': ('Latency', 'Cycles', 'Static cycle count'),
    'subgroup': ('Subgroup',),
}
INTERFACE = (pathlib.Path(__file__).parent / '../../shaders/interface.h').read_text()
# {'GEMM': {'ROWS': 3, ...}, ...}: each kernel's own constants; kernels whose names begin alike share them
CONSTANTS = {}
for kernel, name, id in re.findall(r'^#define VKL_(\w+)_SPEC_(\w+) (\d+)', INTERFACE, re.M):
    CONSTANTS.setdefault(kernel, {})[name] = int(id)
FLAGS = {name: int(value) for name, value in re.findall(r'^#define VKL_(\w+) (\d+)', INTERFACE, re.M)}
# What an invocation keeps in memory is called scratch by RADV and ANV, SLM by NVK, STP and LDP (stores and loads) by Turnip.
IN_MEMORY = re.compile(r'^(Scratch|Spill|Fill|SLM|STP|LDP)(?!.* reg$)')
# The cycles of a compiler's own model are of the whole shader, of which a loop counts so many times for each level.
LOOP_WEIGHT = {'RADV': 8, 'ANV': 10}


class Variant:
    """A row of `variants`, and what became of it on a chip."""

    def __init__(self, row, ours=True):
        self.row = row
        self.ours = ours
        self.kernel, self.bindings, constants, *rest = row.split(None, 4)
        constants = constants.partition('@')[0]
        self.constants = {int(id): int(value) for id, value in (pair.split('=') for pair in constants.split(','))}
        calls, _, self.plan = ' '.join(rest).partition(' ')
        self.calls = int(calls or 1)
        self.picked = self.calls > 0  # what is never picked is shown, and may be as it is
        self.error = 'the compiler ended'
        self.statistics, self.listing = {}, None

    @functools.cached_property
    def loop(self):
        """Read when it is asked for: it takes longer than the compiler."""
        return Loop(self.listing.read_text(errors='replace')) if self.listing else None

    @property
    def name(self):
        text = ','.join('%d=%d' % pair for pair in self.constants.items() if pair[0] < 2 or pair[1])
        return '%s %s' % (self.kernel, text)

    @property
    def shape(self):
        """The constants by their names."""
        kernel = max((kernel for kernel in CONSTANTS if self.kernel.upper().startswith(kernel)), key=len, default=None)
        names = {id: name.lower() for name, id in CONSTANTS.get(kernel, {}).items()}
        names.update({0: 'workgroup', 1: 'form', 2: 'subgroup'})
        return ' '.join('%s=%d' % (names.get(id, id), value) for id, value in self.constants.items() if id < 1 or value)

    def number(self, what):
        return next((self.statistics[name] for name in NAMES[what] if name in self.statistics), None)

    def in_memory(self):
        return ['%s=%g' % pair for pair in self.statistics.items() if IN_MEMORY.match(pair[0]) and pair[1] > 0]

    def cycles_per_fma(self, compiler):
        if self.loop is None or not self.loop.fma:
            return None
        weight = LOOP_WEIGHT.get(compiler.name.split()[0])
        total = self.number('cycles') / weight**self.loop.depth if weight and self.number('cycles') else self.loop.cycles
        return total / self.loop.fma


class Chip:
    def __init__(self, compiler, name, arguments):
        self.compiler, self.name, self.arguments = compiler, name, arguments
        self.prefix = getattr(arguments, 'mesa' + compiler.mesa) if compiler.mesa else None
        self.environment = dict(os.environ, MESA_SHADER_CACHE_DISABLE='1', **{compiler.variable: name})
        self.out = pathlib.Path(arguments.out) / ('%s-%s' % (compiler.name.replace(' ', ''), name)).lower()
        self.variants, self.skipped, self.errors, self.selftest = [], None, [], ''
        if compiler.shim:
            self.environment['PRELOAD'] = '%s/lib%s_noop_drm_shim.so' % (arguments.shims, compiler.shim)
        if not compiler.mesa:
            manifests = glob.glob('/usr/share/vulkan/icd.d/radeon_icd*.json')
            self.environment.update(VK_ICD_FILENAMES=manifests[0] if manifests else '/none', VK_DRIVER_FILES=manifests[0] if manifests else '/none')

    def run(self, *command, rows=None):
        launcher = [os.path.join(self.prefix, 'run'), self.compiler.driver] if self.prefix else []
        return subprocess.run([*launcher, *map(str, command)], env=self.environment, input=rows, capture_output=True, text=True, errors='replace', timeout=300)

    def compile(self):
        build = pathlib.Path(self.arguments.build)
        done = self.run(build / 'tests/variants', *(['brief'] if self.arguments.brief else []))
        first, _, rows = done.stdout.partition('\n')
        if done.returncode == 2 or not first.startswith('#'):
            self.skipped = 'no device: ' + (done.stderr.strip().split('\n')[-1] or 'status %d' % done.returncode)
            return
        if not self.compiler.mesa and 'Mesa 22.3.' not in first:
            self.skipped = 'the system has another RADV: ' + first[2:]
            return
        self.errors = [line for line in done.stderr.split('\n') if line.startswith('variants: ')]
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / 'rows.txt').write_text(rows)
        ours = [Variant(row) for row in rows.splitlines()]
        # what is not picked here may not have been built: its extension is unknown to this glslc
        ours = [variant for variant in ours if variant.picked or (build / 'shaders' / (variant.kernel + '.spv')).exists()]
        self.of(ours, build / 'shaders', self.out / 'ours')
        if self.arguments.foreign:
            asked = next((variant.constants.get(2, 0) for variant in ours if variant.kernel == 'gemm'), 0)
            width = asked or {'RADV': 64, 'Turnip': 64}.get(self.compiler.name.split()[0], 32)
            text = (pathlib.Path(self.arguments.foreign) / 'rows.txt').read_text()
            for mark, value in (('@$W', '@%d' % asked if asked else ''), ('$WW', str(2 * width)), ('$W', str(width))):
                text = text.replace(mark, value)
            self.of([Variant(row, ours=False) for row in text.splitlines()], self.arguments.foreign, self.out / 'foreign')

        if self.arguments.selftest and self.compiler.shim in COMPLETE_SHIMS:
            self.run_selftest(build)

    def run_selftest(self, build):
        done = self.run(build / 'tools/vklstm', 'selftest', '--compile-only', '--quiet', '--json', '--device', 'vulkan')
        try:
            report = json.loads(done.stdout)
        except ValueError:
            self.errors.append('selftest --compile-only: status %d: %s' % (done.returncode, done.stderr.strip().split('\n')[-1]))
            return
        self.selftest = '; selftest made %d' % report['pipelines']
        self.errors += ['selftest --compile-only: %s: %s' % (failure['case'], failure['what']) for failure in report['failures']]
        if done.returncode and not report['failures']:
            self.errors.append('selftest --compile-only: status %d' % done.returncode)

    def of(self, variants, shaders, out):
        out.mkdir(exist_ok=True)
        texts = self.arguments.kernel
        wanted = [variant for variant in variants if not variant.ours or not texts or any(text in variant.kernel for text in texts)]
        self.variants += wanted
        todo = wanted
        while todo:
            done = self.run(self.arguments.build + '/tests/statistics', shaders, out, rows=''.join(variant.row + '\n' for variant in todo))
            lines = done.stdout.splitlines()
            # A shim may have room for a few pipelines alone: one that fails is tried again in a process of its own.
            failed = next((number for number, line in enumerate(lines) if not line.startswith('ok\t')), len(lines))
            for number, (variant, line) in enumerate(zip(todo, lines[:failed])):
                pairs = [pair.rpartition('=') for pair in line.split('\t')[1].split('; ')]
                variant.statistics = {name: float(value) for name, _, value in pairs}
                variant.listing = out / ('%s.txt' % re.sub(r'\W+', '-', variant.name))
                (out / ('%d.txt' % number)).rename(variant.listing)
                variant.error = None
            todo = todo[failed:]
            if failed == 0:
                told = [line for line in done.stderr.split('\n') if line and 'ioctl' not in line.lower()]
                todo[0].error = lines[0].strip() if lines else 'status %d: %s' % (done.returncode, ''.join(told[-1:]))
                if done.returncode == 2:
                    self.skipped = todo[0].error
                    return
                todo = todo[1:]


# ---- Gates ----

# Of the largest tile of GEMM that is picked: multiply-adds among the instructions of the hot loop (share) or for each issue, at least; all loads 16
# bytes wide; registers, at most. What compilers reach on other people's shaders and on sketches is in docs/performance.md.
Gate = namedtuple('Gate', 'share per_issue wide registers', defaults=(0, 0, False, None))
GATES = {
    ('RADV 22', 'navi21'): Gate(share=0.82, wide=True, registers=128),
    ('RADV 22', 'gfx1100'): Gate(share=0.82, wide=True, registers=128),
    ('RADV 26', 'navi31'): Gate(per_issue=1.1),
    ('ANV 26', 'dg2'): Gate(share=0.62),
    ('ANV 26', 'bmg'): Gate(share=0.74),
    ('NVK 26', '172'): Gate(share=0.80),
    ('Turnip 26', '740'): Gate(share=0.75),
}
EDGE_LOSS = 0.05  # what tiles at the edges of a matrix may cost in share


def products(chip):
    """The GEMM pipelines that read and write by four, by form and all but the edge: {(form, ...): {edge: variant}}."""
    ids = CONSTANTS['GEMM']
    wide = sum(FLAGS['GEMM_WIDE_' + array] for array in 'ABC')
    found = {}
    for variant in chip.variants:
        if variant.kernel == 'gemm' and variant.picked and not variant.error:
            flags = variant.constants.get(ids['VARIANT'], 0)
            if flags & wide == wide:
                rest = {**variant.constants, ids['VARIANT']: flags & ~FLAGS['GEMM_EDGE']}
                found.setdefault(tuple(sorted(rest.items())), {})[bool(flags & FLAGS['GEMM_EDGE'])] = variant
    return found


def largest(chip):
    """Of products(), those without edges and with the largest tile."""
    area = lambda variant: variant.constants[CONSTANTS['GEMM']['ROWS']] * variant.constants[CONSTANTS['GEMM']['COLUMNS']]
    inner = [pair[False] for pair in products(chip).values() if False in pair]
    return [variant for variant in inner if area(variant) == max(map(area, inner))]


def slow(chip):
    """Where products are below the chip's gate."""
    gate = GATES.get((chip.compiler.name, chip.name))
    found, main = products(chip), largest(chip)
    if gate and {variant.constants[1] for variant in main} != {0, 1, 2}:
        yield 'the largest tile of GEMM is not picked in every form'
    for variant in main if gate else []:
        loop = variant.loop
        if loop.share < gate.share:
            yield '%s: multiply-adds are %.2f of the hot loop, less than %.2f' % (variant.name, loop.share, gate.share)
        if loop.per_issue < gate.per_issue:
            yield '%s: %.2f multiply-adds for each issue, less than %.2f' % (variant.name, loop.per_issue, gate.per_issue)
        if gate.wide and {*loop.widths('shared'), *loop.widths('global')} != {16}:
            yield '%s: loads of other widths than 16 bytes' % variant.name
        if gate.registers and variant.number('registers') > gate.registers:
            yield '%s: %d registers, more than %d' % (variant.name, variant.number('registers'), gate.registers)
    for pair in found.values():
        if gate and len(pair) == 2 and pair[True].loop.share < pair[False].loop.share - EDGE_LOSS:
            yield '%s: edges cost %.2f of the share' % (pair[True].name, pair[False].loop.share - pair[True].loop.share)


def failures(chip):
    """What is not as it must be on this chip."""
    yield from chip.errors
    for variant in chip.variants:
        if variant.error and variant.picked:
            yield '%s does not compile: %s' % (variant.name, variant.error)
        elif variant.picked and not variant.error and variant.in_memory():
            yield '%s keeps variables in memory: %s (%s)' % (variant.name, ', '.join(variant.in_memory()), variant.plan)
    if not chip.arguments.kernel:
        yield from slow(chip)


def check(chips):
    missed = False
    for chip in chips:
        if chip.skipped:
            print('skipped\t%s %s\t%s' % (chip.compiler.name, chip.name, chip.skipped))
            continue
        complaints = list(failures(chip))
        picked = [variant for variant in chip.variants if variant.picked]
        compiled = [variant for variant in picked if not variant.error]
        most = max(compiled, key=lambda variant: variant.number('registers') or 0, default=None)
        text = '%d of %d pipelines compiled' % (len(compiled), len(picked))
        if most:
            text += ', most registers %d (%s)' % (most.number('registers'), most.name)
        text += chip.selftest
        print('%s\t%s %s\t%s' % ('FAILED' if complaints else 'ok', chip.compiler.name, chip.name, text))
        for complaint in complaints:
            print('  ' + complaint)
        sys.stdout.flush()
        missed = missed or bool(complaints)
    return missed


# ---- Tables ----

COLUMNS = 'chip kernel constants sg reg mem shared occ instr cycles fma share core fma/issue cyc/fma loads'.split()


def cells(chip, variant):
    number = lambda what: '-' if variant.number(what) is None else '%d' % variant.number(what)
    real = lambda value: '-' if value is None else '%.2f' % value
    loop = variant.loop
    has = loop is not None and loop.fma > 0 and loop.found
    widths = lambda kind: ' '.join('%dx%d' % (count, width) for width, count in loop.widths(kind).items())
    loads = '; '.join(kind + ' ' + widths(kind) for kind in ('shared', 'global', 'uniform') if has and loop.widths(kind))
    return [
        '%s %s' % (chip.compiler.name, chip.name),
        variant.kernel,
        variant.shape if variant.ours else variant.plan,
        number('subgroup'),
        number('registers'),
        ' '.join(variant.in_memory()) or '0',
        number('shared'),
        number('occupancy'),
        number('instructions'),
        number('cycles'),
        str(loop.fma) if has else '-',
        real(loop.share if has else None),
        real(loop.core if has else None),
        real(loop.per_issue if has else None),
        real(variant.cycles_per_fma(chip.compiler) if has else None),
        loads or '-',
    ]


def table(chips, markdown):
    rows = [COLUMNS]
    for chip in chips:
        for variant in chip.variants:
            if variant.error:
                rows.append(['%s %s' % (chip.compiler.name, chip.name), variant.kernel, variant.shape, variant.error] + [''] * (len(COLUMNS) - 4))
            else:
                rows.append(cells(chip, variant))
    if markdown:
        rows.insert(1, ['---'] * len(COLUMNS))
        for row in rows:
            print('| %s |' % ' | '.join(row))
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


# The cycles of these listings are the loop's own; those of others are of the whole shader, its long end with it.
LISTED_CYCLES = ('NVK', 'Turnip')


def figures(chip, variant):
    """A loop in a few words."""
    loop, words = variant.loop, []
    words.append('%.2f (%.2f)' % (loop.share, loop.core))
    if loop.per_issue > 1:
        words.append('%.2f/issue' % loop.per_issue)
    if loop.chain >= 0.1:
        words.append('chain %.2f' % loop.chain)
    if chip.compiler.name.split()[0] in LISTED_CYCLES:
        words.append('%.2f cyc' % (loop.cycles / loop.fma))
    return ', '.join(words)


def registers(variant):
    occupancy = variant.number('occupancy')
    return '%d%s' % (variant.number('registers'), ' / %d' % occupancy if occupancy else '')


def spilled(variant):
    count = sum(value for name, value in variant.statistics.items() if IN_MEMORY.match(name) and not name.startswith('Scratch'))
    return ', **%d spilled**' % count if count else ', **scratch**' if variant.in_memory() else ''


def summary(chips):
    """A row for each chip: the largest tile of GEMM in its three forms, beside shaders that are not ours."""
    foreign = [variant.plan for variant in max((chip.variants for chip in chips), key=len, default=[]) if not variant.ours]
    print('| chip | tile, block, lanes | NN | NT | TN | worst edge | reg / occ |%s' % ''.join(' %s | reg / occ |' % name for name in foreign))
    print('|---' * (7 + 2 * len(foreign)) + '|')
    for chip in chips:
        main = largest(chip)
        if not main:
            continue
        constant = lambda name: main[0].constants[CONSTANTS['GEMM'][name]]
        edges = [pair[False].loop.share - pair[True].loop.share for pair in products(chip).values() if len(pair) == 2 and pair[False] in main]
        row = [
            '%s %s' % (chip.compiler.name, chip.name),
            '%dx%d, %dx%d, %d' % (constant('ROWS'), constant('COLUMNS'), constant('ROW_BLOCK'), constant('COLUMN_BLOCK'), main[0].number('subgroup')),
        ]
        for form in range(3):  # TN is there with pieces and without
            of = [variant for variant in main if variant.constants[1] == form]
            worst = min(of, key=lambda variant: variant.loop.share, default=None)
            row.append(figures(chip, worst) + spilled(worst) if worst else '-')
        row.append('%.2f' % -max(edges) if edges else '-')
        row.append(registers(max(main, key=lambda variant: variant.number('registers'))))
        for name in foreign:
            variant = next((variant for variant in chip.variants if variant.plan == name and not variant.ours), None)
            there = variant is not None and not variant.error
            row += [figures(chip, variant) + spilled(variant), registers(variant)] if there else ['does not compile', '-']
        print('| %s |' % ' | '.join(row))


def kernels(chips):
    """A row for each kernel, in the form that plans have most often, and a column for each chip: registers / occupancy, instructions, share."""
    names = sorted({variant.kernel for chip in chips for variant in chip.variants if variant.ours and variant.picked})
    print('| kernel | %s |' % ' | '.join('%s %s' % (chip.compiler.name, chip.name) for chip in chips))
    print('|---' * (1 + len(chips)) + '|')
    for name in names:
        row = [name]
        for chip in chips:
            of = [variant for variant in chip.variants if variant.kernel == name and variant.picked and not variant.error]
            most = max(of, key=lambda variant: variant.calls, default=None)
            if most is None:
                row.append('-')
                continue
            hot = ', %.2f' % most.loop.share if most.loop.found else ''
            row.append('%s, %d%s%s' % (registers(most), most.number('instructions'), hot, spilled(most)))
        print('| %s |' % ' | '.join(row))


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('\n\n')[1])
    for name in ('build', 'out'):
        parser.add_argument(name)
    for name in ("mesa25", "mesa26", "shims", "foreign"):
        parser.add_argument('--' + name)
    for name in ('chip', 'kernel'):
        parser.add_argument('--' + name, action='append', default=[])
    for name in ('brief', 'markdown', 'summary', 'kernels', 'check', 'selftest'):
        parser.add_argument('--' + name, action='store_true')
    parser.add_argument('--jobs', type=int, default=2)
    arguments = parser.parse_args()
    chips = [
        Chip(compiler, name, arguments)
        for compiler in COMPILERS
        for name in compiler.chips.split()
        if not compiler.mesa or (getattr(arguments, 'mesa' + compiler.mesa) and (arguments.shims or not compiler.shim))
    ]
    if arguments.chip:
        chips = [chip for chip in chips if any(text in '%s %s' % (chip.compiler.name, chip.name) for text in arguments.chip)]
    missed = False
    with ThreadPoolExecutor(arguments.jobs) as pool:
        compiled = pool.map(Chip.compile, chips)
        if arguments.check:
            missed = check(chip for chip, _ in zip(chips, compiled))
        else:
            list(compiled)
    if arguments.check:
        pass
    elif arguments.summary:
        summary([chip for chip in chips if not chip.skipped])
    elif arguments.kernels:
        kernels([chip for chip in chips if not chip.skipped])
    else:
        table([chip for chip in chips if not chip.skipped], arguments.markdown)
        for chip in chips:
            if chip.skipped:
                print('%s %s: skipped: %s' % (chip.compiler.name, chip.name, chip.skipped), file=sys.stderr)
    if all(chip.skipped for chip in chips):
        return 77
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
