// RUN: quern-opt %s --quern-insert-barriers --quern-plan-buffers --quern-lower-kernels --quern-kernels-to-llvm "--quern-lower-schedule=symbol=forward" | FileCheck %s -enable-var-scope

func.func private @add(%x: memref<8x64xf32> {quern_kernel.access = #quern_kernel<access update_part>},
                       %b: index, %e: index, %t: index) {
  quern_kernel.tile_add %x, %x to %x rows %b, %e : memref<8x64xf32>, memref<8x64xf32>, memref<8x64xf32>
  return
}

quern_kernel.schedule @many max_tokens 8 {
  %n = quern_kernel.step_count tokens
  %x = quern_kernel.buffer : memref<8x64xf32>
  quern_kernel.launch @add(%x) over rows %n tokens %n : memref<8x64xf32>
  quern_kernel.barrier
  %e = quern_kernel.step_array embeddings : memref<8x64xf32>
  quern_kernel.launch @add(%e) over rows %n tokens %n : memref<8x64xf32>
}
quern_kernel.schedule @one max_tokens 1 {
  %n = quern_kernel.step_count tokens
  %mine = quern_kernel.buffer private : memref<8x64xf32>
  quern_kernel.launch @add(%mine) over rows %n tokens %n replicated : memref<8x64xf32>
}

quern_kernel.schedule @watched max_tokens 4 {
  %n = quern_kernel.step_count tokens
  %x = quern_kernel.buffer : memref<4x2x64xf32>
  quern_kernel.observe %x as 7 rows %n : memref<4x2x64xf32>
}

// Kernels are internal and stay functions.
// CHECK: llvm.func internal @add(%{{.*}}: !llvm.ptr, %{{.*}}: i64, %{{.*}}: i64, %{{.*}}: i64) attributes {{.*}}no_inline

// The smaller schedule comes first; replicated launches get all units.
// CHECK-LABEL: llvm.func internal @forward.one
// CHECK: llvm.call @add(%{{.*}}, %[[ZERO:.*]], %[[N:.*]], %[[N]])

// The observer, if there is one, gets two rows of 64 for each token.
// CHECK-LABEL: llvm.func internal @forward.watched
// CHECK: %[[ROWS:.*]] = llvm.trunc %{{.*}} : i64 to i32
// CHECK: %[[SEEN:.*]] = llvm.icmp "ne" %[[OBSERVER:.*]], %{{.*}} : !llvm.ptr
// CHECK: llvm.cond_br %[[SEEN]]
// CHECK: llvm.call %[[OBSERVER]](%{{.*}}, %{{.*}}, %{{.*}}, %[[ROWS]], %{{.*}}, %{{.*}}, %{{.*}}) :

// units * thread / threads, then a barrier, then the output that may be absent.
// CHECK-LABEL: llvm.func internal @forward.many
// CHECK-SAME: %[[STEP:.*]]: !llvm.ptr, %[[THREAD:.*]]: i32, %[[THREADS:.*]]: i32
// CHECK-DAG: %[[T:.*]] = llvm.zext %[[THREAD]] : i32 to i64
// CHECK-DAG: %[[OF:.*]] = llvm.zext %[[THREADS]] : i32 to i64
// CHECK: %[[BEFORE:.*]] = llvm.mul %[[UNITS:.*]], %[[T]]
// CHECK-NEXT: %[[BEGIN:.*]] = llvm.udiv %[[BEFORE]], %[[OF]]
// CHECK: %[[END:.*]] = llvm.udiv
// CHECK: llvm.call @add(%{{.*}}, %[[BEGIN]], %[[END]], %[[UNITS]])
// CHECK: llvm.call @quern_barrier(%{{.*}}, %[[THREAD]], %[[THREADS]])
// CHECK: %[[WANTED:.*]] = llvm.icmp "ne" %{{.*}}, %{{.*}} : !llvm.ptr
// CHECK: llvm.cond_br %[[WANTED]]

// CHECK-LABEL: llvm.func @forward(
// CHECK: llvm.icmp "sle"
// CHECK: llvm.call @forward.one
// CHECK: llvm.call @forward.many
