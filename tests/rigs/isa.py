#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the compilers of four vendors make of the kernels that the planner picks for their chips, without the chips.

usage: isa.py BUILD OUT [--mesa25 PREFIX] [--mesa26 PREFIX --shims DIR] [--chip TEXT]... [--kernel TEXT]... [--foreign DIR]
              [--markdown] [--check] [--selftest] [--jobs N]

BUILD is a build directory with tests/variants and tests/statistics; OUT takes, for each chip, rows.txt (what is compiled), statistics.txt (what the
driver says of it) and a listing for each row. PREFIX comes from mesa-prefix.sh, DIR from shims.sh; without them RADV of Debian 12 alone
is run. --chip and --kernel: those alone whose names contain TEXT. --foreign: shaders that are not ours, DIR/NAME.spv and DIR/rows.txt with rows
as `variants` prints them, for comparison; $W in a row becomes the size of subgroups that ours use there. Prints a table, with --markdown for
docs/performance.md; with --check a line for each chip and one for each gate that it misses. --selftest: vklstm selftest --compile-only too, where a
shim has the chip's memory.

Exit status: 0; 1 a gate is missed; 2 wrong usage; 77 nothing could be run here.
"""

import argparse
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
# What an invocation keeps in memory is called scratch by RADV and ANV, SLM by NVK, STP and LDP (stores and loads) by Turnip.
IN_MEMORY = re.compile(r'^(Scratch|Spill|Fill|SLM|STP|LDP)(?!.* reg$)')
# The cycles of a compiler's own model are of the whole shader, of which a loop counts so many times for each level.
LOOP_WEIGHT = {'RADV': 8, 'ANV': 10}


class Variant:
    """A row of `variants`, and what became of it on a chip."""

    def __init__(self, row):
        self.row = row
        self.kernel, self.bindings, constants, *rest = row.split(None, 4)
        constants = constants.partition('@')[0]
        self.constants = {int(id): int(value) for id, value in (pair.split('=') for pair in constants.split(','))}
        calls, _, self.plan = ' '.join(rest).partition(' ')
        self.picked = calls != '0'  # what is never picked must compile, but may keep variables in memory
        self.error = 'the compiler ended'
        self.statistics, self.loop = {}, None

    @property
    def name(self):
        text = ','.join('%d=%d' % pair for pair in self.constants.items() if pair[0] < 2 or pair[1])
        return '%s %s' % (self.kernel, text)

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
        done = self.run(build / 'tests/variants')
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
        self.of(ours, build / 'shaders', self.out / 'ours')
        if self.arguments.foreign:
            width = next((int(variant.number('subgroup')) for variant in ours if variant.kernel == 'gemm' and variant.statistics), 32)
            text = (pathlib.Path(self.arguments.foreign) / 'rows.txt').read_text().replace('$W', str(width))
            self.of([Variant(row) for row in text.splitlines()], self.arguments.foreign, self.out / 'foreign')

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
        wanted = [variant for variant in variants if not self.arguments.kernel or any(text in variant.kernel for text in self.arguments.kernel)]
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
                listing = out / ('%s.txt' % re.sub(r'\W+', '-', variant.name))
                (out / ('%d.txt' % number)).rename(listing)
                variant.loop = Loop(listing.read_text(errors='replace'))
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


def failures(chip):
    """What is not as it must be on this chip."""
    yield from chip.errors
    for variant in chip.variants:
        if variant.error:
            yield '%s does not compile: %s' % (variant.name, variant.error)
        elif variant.picked and variant.in_memory():
            yield '%s keeps variables in memory: %s (%s)' % (variant.name, ', '.join(variant.in_memory()), variant.plan)


def check(chips):
    missed = False
    for chip in chips:
        if chip.skipped:
            print('skipped\t%s %s\t%s' % (chip.compiler.name, chip.name, chip.skipped))
            continue
        complaints = list(failures(chip))
        compiled = [variant for variant in chip.variants if not variant.error]
        largest = max(compiled, key=lambda variant: variant.number('registers') or 0, default=None)
        summary = '%d of %d pipelines compiled' % (len(compiled), len(chip.variants))
        if largest:
            summary += ', most registers %d (%s)' % (largest.number('registers'), largest.name)
        summary += chip.selftest
        print('%s\t%s %s\t%s' % ('FAILED' if complaints else 'ok', chip.compiler.name, chip.name, summary))
        for complaint in complaints:
            print('  ' + complaint)
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
    name, _, constants = variant.name.partition(' ')
    return [
        '%s %s' % (chip.compiler.name, chip.name),
        name,
        constants,
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
                rows.append(['%s %s' % (chip.compiler.name, chip.name), *variant.name.split(' ', 1), variant.error] + [''] * (len(COLUMNS) - 4))
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


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('\n\n')[1])
    for name in ('build', 'out'):
        parser.add_argument(name)
    for name in ("mesa25", "mesa26", "shims", "foreign"):
        parser.add_argument('--' + name)
    for name in ('chip', 'kernel'):
        parser.add_argument('--' + name, action='append', default=[])
    for name in ('markdown', 'check', 'selftest'):
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
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(Chip.compile, chips))
    missed = False
    if arguments.check:
        missed = check(chips)
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
