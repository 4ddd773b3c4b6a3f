// RUN: quern-opt %s --quern-plan-buffers | FileCheck %s -enable-var-scope

func.func private @copy(%x: memref<16xf32>, %y: memref<16xf32>, %b: index, %e: index, %t: index) { return }
func.func private @grow(%x: memref<16xf32>, %y: memref<32xf32>, %b: index, %e: index, %t: index) { return }

// a lives in stretch 0-1, b in 1-2, c in 2: c takes a's place. A private buffer counts apart.
// CHECK-LABEL: quern_kernel.schedule @reuse max_tokens 1 attributes {private_bytes = 64 : i64, scratch_bytes = 192 : i64}
quern_kernel.schedule @reuse max_tokens 1 {
  %n = quern_kernel.step_count tokens
  // CHECK: %[[A:.*]] = quern_kernel.buffer at 128 : memref<16xf32>
  %a = quern_kernel.buffer : memref<16xf32>
  // CHECK: quern_kernel.buffer at 0 : memref<32xf32>
  %b = quern_kernel.buffer : memref<32xf32>
  // CHECK: quern_kernel.buffer private at 0 : memref<16xf32>
  %p = quern_kernel.buffer private : memref<16xf32>
  // CHECK: quern_kernel.buffer at 128 : memref<16xf32>
  %c = quern_kernel.buffer : memref<16xf32>
  quern_kernel.launch @copy(%a, %p) over rows %n tokens %n : memref<16xf32>, memref<16xf32>
  quern_kernel.barrier
  quern_kernel.launch @grow(%a, %b) over rows %n tokens %n : memref<16xf32>, memref<32xf32>
  quern_kernel.barrier
  quern_kernel.launch @grow(%c, %b) over rows %n tokens %n : memref<16xf32>, memref<32xf32>
}

// Without a barrier between, threads may be at either launch: no sharing.
// CHECK-LABEL: quern_kernel.schedule @together max_tokens 1 attributes {private_bytes = 0 : i64, scratch_bytes = 256 : i64}
quern_kernel.schedule @together max_tokens 1 {
  %n = quern_kernel.step_count tokens
  %a = quern_kernel.buffer : memref<16xf32>
  %b = quern_kernel.buffer : memref<16xf32>
  %c = quern_kernel.buffer : memref<16xf32>
  %d = quern_kernel.buffer : memref<16xf32>
  quern_kernel.launch @copy(%a, %b) over rows %n tokens %n : memref<16xf32>, memref<16xf32>
  quern_kernel.launch @copy(%c, %d) over rows %n tokens %n : memref<16xf32>, memref<16xf32>
}
