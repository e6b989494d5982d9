# SPDX-License-Identifier: MIT
"""What a shader's hot loop consists of, from the machine code that a compiler shows.

Four dialects are read: RADV's ACO (AMD), ANV's brw (Intel), NVK's NAK (NVIDIA) and Turnip's ir3 (Adreno).

A loop is what lies between a label and a branch back to it. The hot one is that with the most multiply-adds, the shortest of several; and
inside it the loop that holds at least half of them, if there is one, and so on: where the innermost loop is rolled, that one is looked at, where it
is unrolled, the one around it with all that it loads and stores. Counting is static: what is rarely run counts as the rest.
"""

import re
from collections import Counter, namedtuple

# kind: fma, vector, scalar, shared (loads), global (loads), uniform (loads), store, scratch, wait, barrier, branch
# ops: instructions that it counts as (an RDNA3 pair is two, issued as one); width: bytes that a load gives an invocation;
# cycles: 0 where the listing does not tell; result: the registers that an fma writes; target: of a branch; falls: the next may follow
Instruction = namedtuple('Instruction', 'kind ops fma width cycles result target falls')


def instruction(kind, ops=1, fma=0, width=0, cycles=0, result=None, target=None, falls=True):
    return Instruction(kind, ops, fma, width, cycles, result, target, falls)


# Readers yield instructions; names of the places where blocks begin; and, of NAK, tuples of the places that follow a block.


def kind_of(rules, name, known={}):
    """The first rule that matches a name; asked a hundred thousand times, for a few dozen names."""
    key = id(rules), name
    if key not in known:
        known[key] = next((kind for pattern, kind in rules if pattern.match(name)), None)
    return known[key]


class Amd:
    label = re.compile(r'(BB\d+):')
    rules = [
        (re.compile(pattern), kind)
        for pattern, kind in (
            (r's_c?branch', 'branch'),
            (r's_barrier', 'barrier'),
            (r's_(wait|delay_alu|clause|nop|inst_prefetch|set_inst_prefetch|sleep|code_end|setprio)', 'wait'),
            (r's_(buffer_)?load', 'uniform'),
            (r's_', 'scalar'),
            (r'ds_(read|load)', 'shared'),
            (r'ds_(bpermute|permute|swizzle)', 'vector'),
            (r'ds_', 'store'),
            (r'scratch_', 'scratch'),
            (r'(buffer|global|flat|tbuffer)_load', 'global'),
            (r'(buffer|global|flat|tbuffer)_', 'store'),
            (r'v_', 'vector'),
        )
    ]
    multiply_add = re.compile(r'v_(dual_)?(fmac|fma|mac|mad|fmaak|fmamk|madak|madmk|fma_mix\w*|mad_mix\w*)_(f32|f16|f64|legacy\w*)')
    packed = re.compile(r'v_pk_fma_f|v_dot2')
    widths = {'b32': 4, 'dword': 4, 'b64': 8, 'dwordx2': 8, 'b96': 12, 'dwordx3': 12, 'b128': 16, 'dwordx4': 16, 'b256': 32,
              'dwordx8': 32, 'b512': 64, 'dwordx16': 64}

    def read(self, lines):
        for line in lines:
            found = self.label.match(line)
            if found:
                yield found.group(1)
                continue
            text = line.split(';')[0].strip()
            if line[:1] in '\t ' and text:
                yield self.one(text)

    def one(self, text):
        name = text.split()[0]
        kind = kind_of(self.rules, name) or 'scalar'
        if kind == 'branch':
            return instruction(kind, target=text.split()[-1], falls=name != 's_branch')
        if kind in ('shared', 'global', 'uniform'):
            width = self.widths.get(re.sub(r'_(u|i|s)?(8|16)$', '', name).split('_')[-1], 4)
            return instruction(kind, width=width * (2 if re.search(r'read2|2addr', name) else 1))
        if kind != 'vector':
            return instruction(kind)
        halves = [half.strip() for half in text.split('::')]  # of a pair
        fma, result = 0, []
        for half in halves:
            count = 2 if self.packed.match(half) else 1 if self.multiply_add.match(half) else 0
            if count:
                fma += count
                result.append(half.split(None, 1)[1].split(',')[0])
        return instruction('fma' if fma else 'vector', ops=len(halves), fma=fma, result=tuple(result))


class Intel:
    label = re.compile(r'(LABEL\d+):')
    head = re.compile(r'(?:\([^)]*\) *)?([a-z]\w*)[\w.]*(?:\s+\w+)?\(\d+\)')
    shared = re.compile(r'\bslm\b|Surface = 254')
    flow = 'while break cont endif if else halt jmpi goto join'.split()

    def read(self, lines):
        for at, line in enumerate(lines):
            found = self.label.match(line)
            if found:
                yield found.group(1)
                continue
            if line.startswith('nop'):
                yield instruction('wait')
                continue
            found = self.head.match(line)
            if found and line[:1] not in ' \t':  # what is indented describes the message of the line before
                yield self.one(found.group(1), line, lines[at + 1] if at + 1 < len(lines) else '')

    def one(self, name, line, message):
        if name in self.flow:
            target = re.search(r'LABEL\d+', line)
            return instruction('branch', target=target.group() if target and name == 'while' else None)
        if name in ('sync', 'nop', 'wait'):
            return instruction('barrier' if 'sync bar' in line else 'wait')
        if name.startswith('send'):
            return self.message(message)
        if name in ('mad', 'mac') and re.search(r'>H?F\s', line):
            return instruction('fma', fma=1, result=(re.search(r'\)\s+(\S+?)<', line).group(1),))
        return instruction('vector')

    def message(self, text):
        if 'barrier' in text:
            return instruction('barrier')
        if 'fence' in text:
            return instruction('wait')
        if 'scratch' in text.lower():
            return instruction('scratch')
        if not re.search(r'\bload\b|\bread\b', text):
            return instruction('store')
        kind = 'shared' if self.shared.search(text) else 'uniform' if 'transpose' in text or 'block' in text else 'global'
        width = 4
        vector, mask, channels = re.search(r'V(\d+)', text), re.search(r'Mask = 0x([0-9a-f])', text), re.search(r'd32, ([xyzw]+)', text)
        if vector:
            width = 4 * int(vector.group(1))
        elif mask:  # of the components that are left out
            width = 4 * (4 - bin(int(mask.group(1), 16)).count('1'))
        elif channels:
            width = 4 * len(channels.group(1))
        return instruction(kind, width=width)


class Nvidia:
    block = re.compile(r'block(?:\.u)? (\d+) L\d+')
    following = re.compile(r'\} -> \[(.*)\]')
    line = re.compile(r'(?:@!?\w+ +)?(?:([\w. ]+?) += +)?([a-z][\w.]*)(.*?)//.*?delay=(\d+)')
    rules = [
        (re.compile(pattern), kind)
        for pattern, kind in (
            (r'(bra|brx|jmp|bssy|bsync|bclear|break|exit|warpsync|bmov)\b', 'branch'),
            (r'bar\b', 'barrier'),
            (r'(membar|depbar|nop|errbar|cctl)\b', 'wait'),
            (r'ld\.shared|lds', 'shared'),
            (r'ld\.local|st\.local|ldl|stl', 'scratch'),
            (r'ld\.global|ldg', 'global'),
            (r'st\.|st[gs]|atom|red\b', 'store'),
            (r'ldc', 'uniform'),
            (r'h?ffma|hfma2', 'fma'),
        )
    ]

    def read(self, lines):
        for line in lines:
            found = self.block.match(line)
            if found:
                yield found.group(1)
                continue
            found = self.following.match(line)
            if found:
                yield tuple(re.findall(r'\d+', found.group(1)))
                continue
            found = self.line.match(line.strip())
            if found and line[:1] in ' @\t':
                yield self.one(*found.groups())

    def one(self, results, name, operands, delay):
        results = (results or '').split()
        kind = kind_of(self.rules, name)
        if not kind:
            kind = 'scalar' if results and all(re.match(r'u[rp]\d', result) for result in results) else 'vector'
        width = re.search(r'\.[bus](8|16|32|64|128)\b', name)
        return instruction(
            kind,
            fma=0 if kind != 'fma' else 2 if name.startswith('hfma2') else 1,
            width=int(width.group(1)) // 8 if width else 4,
            cycles=int(delay),
            result=tuple(results[:1]),
        )


class Adreno:
    label = re.compile(r'(l\d+):')
    line = re.compile(r'((?:\(\w+\))*) *([a-z][\w.]*)(.*)')
    rules = [
        (re.compile(pattern), kind)
        for pattern, kind in (
            (r'nop$', 'wait'),
            (r'(jump|br|brao|braa|bany|ball|brac|getone|getlast|pred[tfe]|shp[se]|end)$', 'branch'),
            (r'bar', 'barrier'),
            (r'fence|sleep', 'wait'),
            (r'ldl', 'shared'),
            (r'(ld|st)p', 'scratch'),
            (r'ldc', 'uniform'),
            (r'isam|ldib|ldg|sam', 'global'),
            (r'stl|stib|stg|atomic', 'store'),
            (r'mad\.f', 'fma'),
        )
    ]

    def read(self, lines):
        for line in lines:
            text = line.strip()
            found = self.label.match(text)
            if found:
                yield found.group(1)
                continue
            found = self.line.match(text)
            if found:
                yield self.one(*found.groups())

    def one(self, marks, name, operands):
        kind = kind_of(self.rules, name) or 'vector'
        repeat, nops = (int(found.group(1)) if found else 0 for found in (re.search(r'rpt(\d+)', marks), re.search(r'nop(\d+)', marks)))
        ops = repeat + 1 if kind in ('fma', 'vector') else 1
        width = 4
        if kind == 'shared':
            width = 4 * int(operands.split(',')[-1])
        elif kind == 'global':
            lanes, count = re.search(r'\(([xyzw]+)\)', operands), re.search(r'\.(\d)\.', name)
            width = 4 * (len(lanes.group(1)) if lanes else int(count.group(1)) if count else 1)
        target = re.search(r'#(l\d+)', operands) if kind == 'branch' else None
        return instruction(
            kind,
            ops=ops,
            fma=ops if kind == 'fma' else 0,
            width=width,
            cycles=1 + repeat + nops,
            result=(operands.split(',')[0].strip(),),
            target=target.group(1) if target else None,
            falls=name not in ('jump', 'end'),
        )


def dialect(text):
    for pattern, reader in ((r'^block(\.u)? \d+ L', Nvidia), (r'MsgDesc|^\w+\(\d+\) ', Intel), (r'^\s+[sv]_\w+', Amd)):
        if re.search(pattern, text, re.M):
            return reader()
    return Adreno()


class Code:
    """A listing as blocks and what follows which."""

    def __init__(self, text):
        self.instructions, places, follow, cuts = [], {}, {}, {0}
        for item in dialect(text).read(text.split('\n')):
            at = len(self.instructions)
            if isinstance(item, str):
                places[item] = at
            elif isinstance(item, tuple) and not isinstance(item, Instruction):
                follow.setdefault(at, item)  # of a block, and not of an empty one behind it
            else:
                self.instructions.append(item)
                if item.kind == 'branch':
                    cuts.add(at + 1)
        cuts = sorted((cuts | set(places.values()) | set(follow)) - {len(self.instructions)})
        index = {cut: number for number, cut in enumerate(cuts)}
        self.blocks = list(zip(cuts, cuts[1:] + [len(self.instructions)]))
        self.next = []
        for number, (_, end) in enumerate(self.blocks):
            last = self.instructions[end - 1]
            if end in follow:
                after = [index[places[place]] for place in follow[end] if places.get(place) in index]
            else:
                after = [number + 1] if last.falls and number + 1 < len(self.blocks) else []
                if places.get(last.target) in index:
                    after.append(index[places[last.target]])
            self.next.append(after)

    def of(self, numbers):
        return [item for number in sorted(numbers) for item in self.instructions[slice(*self.blocks[number])]]

    def loops(self):
        """Sets of blocks: of those that lead to a branch back, up to the block that it goes to, through which all ways to them lead. NAK lays
        blocks of a loop out before and behind it."""
        before = [[] for _ in self.blocks]
        reached, todo = {0}, [0]
        while todo:
            number = todo.pop()
            for other in self.next[number]:
                before[other].append(number)
                if other not in reached:
                    reached.add(other)
                    todo.append(other)
        through = {number: reached for number in reached}  # the blocks that every way there leads through
        through[0] = {0}
        changed = True
        while changed:
            changed = False
            for number in sorted(reached - {0}):
                new = set.intersection(*(through[other] for other in before[number])) | {number}
                changed = changed or new != through[number]
                through[number] = new
        found = {}
        for number in reached:
            for head in self.next[number]:
                if head not in through[number]:
                    continue
                body, todo = {head}, [number]
                while todo:
                    block = todo.pop()
                    if block not in body:
                        body.add(block)
                        todo += before[block]
                found.setdefault(head, set()).update(body)
        return [frozenset(body) for body in found.values()]


class Loop:
    """The hot loop of a listing; `found` is false where no loop has a multiply-add, and the whole is counted."""

    def __init__(self, text):
        code = Code(text)
        loops = code.loops()
        fma = {loop: sum(item.fma for item in code.of(loop)) for loop in loops}

        def hottest(of):
            return max(of, key=lambda loop: (fma[loop], -len(code.of(loop))), default=frozenset())

        hot = hottest(loops)
        self.found = bool(fma.get(hot))
        inner = hot
        while self.found and inner:
            hot = inner
            inner = hottest([loop for loop in loops if loop < hot and 2 * fma[loop] >= fma[hot]])
        self.depth = sum(hot <= loop for loop in loops) if self.found else 0
        self.count([code.of([number]) for number in sorted(hot if self.found else range(len(code.blocks)))])

    def count(self, blocks):
        self.kinds = Counter()
        self.loads = Counter()  # (kind, width): how many
        self.cycles = self.fma = chained = multiply_adds = 0
        core, last = (0, 1), None  # multiply-adds and instructions of the block with most of the former
        for block in blocks:
            core = max(core, (sum(item.fma for item in block), sum(item.ops for item in block)), key=lambda pair: pair[0])
            for item in block:
                self.kinds[item.kind] += item.ops
                self.cycles += item.cycles
                self.fma += item.fma
                if item.kind in ('shared', 'global', 'uniform'):
                    self.loads[item.kind, item.width] += 1
                if item.fma:
                    multiply_adds += 1
                    chained += item.result == last
                    last = item.result
        self.ops = sum(self.kinds.values())
        issues = sum(len(block) for block in blocks)
        self.share = self.fma / max(self.ops, 1)
        self.core = core[0] / core[1]
        self.per_issue = self.fma / max(issues, 1)
        self.chain = chained / max(multiply_adds, 1)  # multiply-adds that wait for the one before

    def widths(self, kind):
        """How wide the loads of a kind are: {bytes: how many}."""
        return {width: count for (of, width), count in sorted(self.loads.items()) if of == kind}
