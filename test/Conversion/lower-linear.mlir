// RUN: quern-opt %s --quern-lower-kernels=target=x86-64-v3 | FileCheck %s --check-prefixes=BYTES,MADDUBS
// RUN: quern-opt %s --quern-lower-kernels=target=icelake-server | FileCheck %s --check-prefixes=BYTES,VNNI
// RUN: quern-opt %s --quern-lower-kernels=target=sapphirerapids | FileCheck %s --check-prefixes=BYTES,AMX
// RUN: quern-opt %s --quern-lower-kernels=target=aarch64 | FileCheck %s --check-prefixes=BYTES,SDOT

// One token by dot products; 16 and more in tiles, where there are any: configured when there are
// enough tokens, released at the end; what is left over by dot products again.
// BYTES-LABEL: func.func private @bytes
func.func private @bytes(%q: memref<4096xi8>, %w: memref<3456xi8>, %out: memref<32x96xf32>,
                         %begin: index, %end: index, %tokens: index) {
  // MADDUBS: scf.if
  // MADDUBS: llvm.x86.avx2.pmadd.ub.sw
  // MADDUBS: } else {
  // MADDUBS-NOT: tile
  // MADDUBS: llvm.x86.avx2.pmadd.ub.sw
  // VNNI: scf.if
  // VNNI: llvm.x86.avx512.vpdpbusd.512
  // VNNI: } else {
  // VNNI-NOT: tile
  // VNNI: llvm.x86.avx512.vpdpbusd.512
  // SDOT: scf.if
  // SDOT: llvm.aarch64.neon.sdot
  // SDOT: } else {
  // SDOT: llvm.aarch64.neon.sdot
  // AMX: %[[ONE:.*]] = arith.cmpi eq, %{{.*}} : index
  // AMX: scf.if %[[ONE]]
  // AMX: llvm.x86.avx512.vpdpbusd.512
  // AMX: } else {
  // AMX: %[[ENOUGH:.*]] = arith.cmpi uge, %{{.*}}, %{{.*}} : index
  // AMX: scf.if %[[ENOUGH]]
  // AMX: llvm.x86.ldtilecfg
  // AMX: llvm.x86.tilezero
  // AMX: llvm.x86.tileloadd64
  // AMX: llvm.x86.tileloadd64
  // AMX: llvm.x86.tdpbssd
  // AMX: llvm.x86.tilestored64
  // AMX: llvm.x86.avx512.vpdpbusd.512
  // AMX: scf.if %[[ENOUGH]]
  // AMX: llvm.x86.tilerelease
  quern_kernel.tile_linear q8 %q, %w to %out panels %begin, %end tokens %tokens
      of tensor<96x64xf32, #quern.q4_0>
      : memref<4096xi8>, memref<3456xi8>, memref<32x96xf32>
  return
}

// Tiles of bf16 multiply codes that are integers as they are; elsewhere the activations are int16.
// BYTES-LABEL: func.func private @bf16
func.func private @bf16(%x: memref<14336xi8>, %w: memref<3456xi8>, %out: memref<32x96xf32>,
                        %begin: index, %end: index, %tokens: index) {
  // MADDUBS-NOT: pmadd.ub
  // MADDUBS: llvm.x86.avx2.pmadd.wd
  // VNNI-NOT: {{tile|vpdpbusd}}
  // VNNI: llvm.x86.avx512.pmaddw.d.512
  // AMX: llvm.x86.ldtilecfg
  // AMX: llvm.x86.tileloadd64
  // AMX: scf.for
  // AMX: llvm.x86.tdpbf16ps
  // AMX: llvm.x86.tilestored64
  // AMX: llvm.x86.tilerelease
  quern_kernel.tile_linear bf16 %x, %w to %out panels %begin, %end tokens %tokens
      of tensor<96x64xf32, #quern.q4_0>
      : memref<14336xi8>, memref<3456xi8>, memref<32x96xf32>
  return
}

// Too few tokens for a tile, ever: no tiles.
// BYTES-LABEL: func.func private @few
func.func private @few(%q: memref<1024xi8>, %w: memref<3456xi8>, %out: memref<8x96xf32>,
                       %begin: index, %end: index, %tokens: index) {
  // AMX-NOT: llvm.x86.{{t|ld}}
  quern_kernel.tile_linear q8 %q, %w to %out panels %begin, %end tokens %tokens
      of tensor<96x64xf32, #quern.q4_0>
      : memref<1024xi8>, memref<3456xi8>, memref<8x96xf32>
  return
}
