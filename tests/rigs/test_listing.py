#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What listing.py counts, on loops short enough to count by hand: one for each compiler."""

import sys
import unittest

sys.dont_write_bytecode = True

from listing import Loop

AMD = """
BB0:
	v_mov_b32_e32 v0, 0                                         ; 7e000280
BB1:
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	ds_read_b128 v[4:7], v1 offset:16                           ; dbfc0010
	ds_read2_b32 v[8:9], v1 offset0:1 offset1:2                 ; d8dc0201
	global_load_dwordx4 v[10:13], v[2:3], off                   ; dc388000
	s_load_dwordx4 s[4:7], s[0:1], 0x10                         ; f4080100
	v_fmac_f32_e32 v0, v4, v8                                   ; 56001104
	v_fmac_f32_e32 v0, v5, v9                                   ; 56001305
	v_dual_fmac_f32 v20, v4, v9 :: v_dual_mov_b32 v21, v5       ; c8001304
	v_add_nc_u32_e32 v1, 16, v1                                 ; 4a020290
	s_cbranch_scc0 BB1                                          ; bf84fff0
BB2:
	v_fma_f32 v0, v0, v0, v0                                    ; d54b0000
	s_endpgm                                                    ; bf810000
"""

# the loop inside has all multiply-adds
INTEL = """
mov(8)          g2<1>UD         0x00000000UD                    { align1 1Q };

LABEL1:
add(8)          g3<1>D          g3<1,1,0>D      1D              { align1 1Q };

LABEL0:
(+f0.0) break(8) JIP:  LABEL2         UIP:  LABEL2              { align1 1Q };
sync nop(1)                     null<0,1,0>UB                   { align1 WE_all 1N $2.dst };
nop                                                             ;
send(8)         g20UD           g25UD           nullUD          0x02403500                0x00000000
                slm MsgDesc: ( load, a32, d32, V4, L1STATE_L3MOCS dst_len = 4, src0_len = 1, src1_len = 0 flat )  base_offset 0  { align1 1Q $2 };
mad(8)          g12<1>F         g12<8,8,1>F     g20<8,8,1>F     g28<1,1,1>F { align1 1Q };
mad(8)          g13<1>F         g13<8,8,1>F     g21<8,8,1>F     g28<1,1,1>F { align1 1Q };

LABEL2:
while(8)        JIP:  LABEL0                                    { align1 1Q };
while(8)        JIP:  LABEL1                                    { align1 1Q };
"""

# block 3 goes back, from behind the end
NVIDIA = """block.u 0 L0 [] -> {
      r1       = mov rZ                                      // delay=2
} -> [1]
block 1 L1 [0, 3] -> {
      r4..8    = ld.shared.strong.cta.b128 [r43], pT         // delay=1 wr:2
      r1       = ffma.ftz r4 r5 r1                           // delay=4 wt=000100
      ur0      = uiadd3 ur0 ur1 urZ                          // delay=2
} -> [2, 3]
block 2 L2 [1] -> {
                 st.global.a64.strong.cta.b32 [r8..10], r1   // delay=1
                 exit                                        // delay=1
} -> []
block 3 L3 [1] -> {
                 bar.sync                                    // delay=6
                 bra pT L1                                   // delay=1
} -> [1]
"""

ADRENO = """mov.u32u32 r8.x, 0
l7:
(sy)ldl.u32 r4.x, l[r8.y], 4
(rpt2)nop
isam.v.base0 (u32)(xy)r9.y, r9.x, s#0, t#0
(rpt1)(nop1) mad.f32 r7.x, r4.x, (r)r9.y, (r)r7.x
br !p0.x, #l7
end
"""


class Listings(unittest.TestCase):
    def check(self, text, fma, ops, **more):
        loop = Loop(text)
        self.assertTrue(loop.found)
        self.assertEqual((loop.fma, loop.ops), (fma, ops), dict(loop.kinds))
        for name, value in more.items():
            self.assertEqual(loop.widths(name) if name in ('shared', 'global', 'uniform') else getattr(loop, name), value, name)

    def test_amd(self):
        # a pair is two operations and one issue; two b32 are eight bytes; the second multiply-add waits for the first
        self.check(AMD, 3, 11, shared={8: 1, 16: 1}, **{'global': {16: 1}}, uniform={16: 1}, per_issue=3 / 10, chain=1 / 3, depth=1)

    def test_intel(self):
        self.check(INTEL, 2, 7, shared={16: 1}, depth=2)

    def test_nvidia(self):
        self.check(NVIDIA, 1, 5, shared={16: 1}, cycles=14)

    def test_adreno(self):
        # a repeated instruction is so many; nops in front of one cost time, and are no instruction
        self.check(ADRENO, 2, 6, shared={16: 1}, **{'global': {8: 1}}, cycles=9)

    def test_without_a_loop(self):
        loop = Loop('\tv_fma_f32 v0, v0, v0, v0 ; d54b0000\n\ts_endpgm ; bf810000\n')
        self.assertFalse(loop.found)
        self.assertEqual((loop.fma, loop.ops), (1, 2))


if __name__ == '__main__':
    unittest.main()
