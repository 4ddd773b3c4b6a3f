// RUN: quern-opt %s --quern-insert-barriers --split-input-file --verify-diagnostics | FileCheck %s -enable-var-scope

func.func private @produce(%x: memref<8x64xf32> {quern_kernel.access = #quern_kernel<access write_part>},
                           %b: index, %e: index, %t: index) { return }
func.func private @part(%x: memref<8x64xf32> {quern_kernel.access = #quern_kernel<access read_part>},
                        %y: memref<8x64xf32> {quern_kernel.access = #quern_kernel<access write_part>},
                        %b: index, %e: index, %t: index) { return }
func.func private @all(%x: memref<8x64xf32> {quern_kernel.access = #quern_kernel<access read>},
                       %y: memref<8x64xf32> {quern_kernel.access = #quern_kernel<access write_part>},
                       %b: index, %e: index, %t: index) { return }

// What belongs to the same units stays on the same thread; reading everything does not.
// CHECK-LABEL: quern_kernel.schedule @partition
quern_kernel.schedule @partition max_tokens 8 {
  %n = quern_kernel.step_count tokens
  %x = quern_kernel.buffer : memref<8x64xf32>
  %y = quern_kernel.buffer : memref<8x64xf32>
  // CHECK: launch @produce
  quern_kernel.launch @produce(%x) over rows %n tokens %n : memref<8x64xf32>
  // CHECK-NEXT: launch @part
  quern_kernel.launch @part(%x, %y) over rows %n tokens %n : memref<8x64xf32>, memref<8x64xf32>
  // CHECK-NEXT: barrier
  // CHECK-NEXT: launch @all
  quern_kernel.launch @all(%y, %x) over rows %n tokens %n : memref<8x64xf32>, memref<8x64xf32>
  // CHECK-NOT: launch
}

// The same number of units of another kind is another partition.
// CHECK-LABEL: quern_kernel.schedule @domains
quern_kernel.schedule @domains max_tokens 8 {
  %n = quern_kernel.step_count tokens
  %four = quern_kernel.units 4
  %x = quern_kernel.buffer : memref<8x64xf32>
  %y = quern_kernel.buffer : memref<8x64xf32>
  // CHECK: launch @produce
  quern_kernel.launch @produce(%x) over panels %four tokens %n : memref<8x64xf32>
  // CHECK-NEXT: barrier
  // CHECK-NEXT: launch @part
  quern_kernel.launch @part(%x, %y) over heads %four tokens %n : memref<8x64xf32>, memref<8x64xf32>
}

// Reading twice, and writing different buffers, needs no barrier.
// CHECK-LABEL: quern_kernel.schedule @independent
quern_kernel.schedule @independent max_tokens 8 {
  %n = quern_kernel.step_count tokens
  %x = quern_kernel.buffer : memref<8x64xf32>
  %y = quern_kernel.buffer : memref<8x64xf32>
  %z = quern_kernel.buffer : memref<8x64xf32>
  // CHECK-NOT: barrier
  quern_kernel.launch @all(%x, %y) over rows %n tokens %n : memref<8x64xf32>, memref<8x64xf32>
  quern_kernel.launch @all(%x, %z) over rows %n tokens %n : memref<8x64xf32>, memref<8x64xf32>
  // CHECK: }
}

// A thread's own copy is never another's.
// CHECK-LABEL: quern_kernel.schedule @private
quern_kernel.schedule @private max_tokens 8 {
  %n = quern_kernel.step_count tokens
  %x = quern_kernel.buffer : memref<8x64xf32>
  %mine = quern_kernel.buffer private : memref<8x64xf32>
  %y = quern_kernel.buffer : memref<8x64xf32>
  // CHECK-NOT: barrier
  quern_kernel.launch @all(%x, %mine) over rows %n tokens %n replicated : memref<8x64xf32>, memref<8x64xf32>
  quern_kernel.launch @all(%mine, %y) over rows %n tokens %n : memref<8x64xf32>, memref<8x64xf32>
  // CHECK: }
}

// Two weights' reads after a write in another layer of the cache do not meet; the same part does.
// CHECK-LABEL: quern_kernel.schedule @write_after_read
quern_kernel.schedule @write_after_read max_tokens 8 {
  %n = quern_kernel.step_count tokens
  %x = quern_kernel.buffer : memref<8x64xf32>
  %y = quern_kernel.buffer : memref<8x64xf32>
  // CHECK: launch @all
  quern_kernel.launch @all(%x, %y) over rows %n tokens %n : memref<8x64xf32>, memref<8x64xf32>
  // CHECK-NEXT: barrier
  // CHECK-NEXT: launch @produce
  quern_kernel.launch @produce(%x) over rows %n tokens %n : memref<8x64xf32>
}

// An observer sees a whole buffer from every thread, and nothing changes it meanwhile.
// CHECK-LABEL: quern_kernel.schedule @observed
quern_kernel.schedule @observed max_tokens 8 {
  %n = quern_kernel.step_count tokens
  %x = quern_kernel.buffer : memref<8x64xf32>
  // CHECK: launch @produce
  quern_kernel.launch @produce(%x) over rows %n tokens %n : memref<8x64xf32>
  // CHECK-NEXT: barrier
  // CHECK-NEXT: observe %{{.+}} as 0 rows
  quern_kernel.observe %x as 0 rows %n : memref<8x64xf32>
  // CHECK-NEXT: barrier
  // CHECK-NEXT: launch @produce
  quern_kernel.launch @produce(%x) over rows %n tokens %n : memref<8x64xf32>
  // CHECK-NOT: barrier
}

// -----

func.func private @produce(%x: memref<8x64xf32> {quern_kernel.access = #quern_kernel<access write_part>},
                           %b: index, %e: index, %t: index) { return }
quern_kernel.schedule @shared max_tokens 8 {
  %n = quern_kernel.step_count tokens
  %x = quern_kernel.buffer : memref<8x64xf32>
  // expected-error @+1 {{is replicated, but writes its buffer 0, which is not private}}
  quern_kernel.launch @produce(%x) over rows %n tokens %n replicated : memref<8x64xf32>
}
