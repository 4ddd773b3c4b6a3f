// RUN: quern-opt %s --verify-roundtrip | FileCheck %s
// RUN: quern-opt %s | quern-opt | FileCheck %s
// RUN: quern-opt %s --emit-bytecode | quern-opt | FileCheck %s
// RUN: quern-opt %s --mlir-print-op-generic | quern-opt | FileCheck %s

// CHECK: #[[$ROPE:.+]] = #quern.rope<neox, factor = 1.000000e+00, frequencies = [1.000000e+00, 1.000000e-01, 0.00999999977, 1.000000e-03]>
// CHECK: module attributes {quern.model = {architecture = "llama", layers = 2 : i64}}
module attributes {quern.model = {architecture = "llama", layers = 2 : i64}} {

// CHECK: quern.file @model path "model.gguf" size 1000000
quern.file @model path "model.gguf" size 1000000
// CHECK: quern.file @hashed path "w.safetensors" size 4096 hash "abcd"
quern.file @hashed path "w.safetensors" size 4096 hash "abcd"

// CHECK: quern.weight @token_embd.weight : tensor<64x32xf32, #quern.q8_0> layout<gguf> from [data @model at 4096 size 2176]
quern.weight @token_embd.weight : tensor<64x32xf32, #quern.q8_0> layout<gguf> from [data @model at 4096 size 2176]
// The spelled form of a known format is printed by its name.
// CHECK: quern.weight @qkv : tensor<16x256xf32, #quern.q4_K> layout<gguf> from [data @model at 0 size 2304]
quern.weight @qkv : tensor<16x256xf32, #quern.format<ui4, scale f16[1x256] * ui6[1x32], minus f16[1x256] * ui6[1x32]>> layout<gguf> from [data @model at 0 size 2304]
// CHECK: quern.weight @k : tensor<4x256xf32, #quern.q4_K> view of @qkv rows 8
quern.weight @k : tensor<4x256xf32, #quern.q4_K> view of @qkv rows 8
// CHECK: quern.weight @int3 : tensor<32x80xf32, #quern.format<i3, scale f16[1x40]>> layout<canonical> from [codes @model at 0 size 960, scales @model at 1024 size 128]
quern.weight @int3 : tensor<32x80xf32, #quern.format<i3, scale f16[1x40]>> layout<canonical> from [codes @model at 0 size 960, scales @model at 1024 size 128]
// CHECK: quern.weight @packed : tensor<32x80xf32, #quern.format<i3, scale f16[1x40]>> layout<panel, 16>
quern.weight @packed : tensor<32x80xf32, #quern.format<i3, scale f16[1x40]>> layout<panel, 16>

// CHECK-LABEL: func.func @weights
func.func @weights(%tokens: tensor<?xi32>) -> tensor<?x64xf32> {
  // CHECK: %[[W:.+]] = quern.use @token_embd.weight : tensor<64x32xf32, #quern.q8_0>
  %w = quern.use @token_embd.weight : tensor<64x32xf32, #quern.q8_0>
  // CHECK: %[[X:.+]] = quern.embedding %{{.+}}, %[[W]] : tensor<?xi32>, tensor<64x32xf32, #quern.q8_0>
  %x = quern.embedding %tokens, %w : tensor<?xi32>, tensor<64x32xf32, #quern.q8_0>
  // CHECK: quern.linear %[[X]], %[[W]] activations<fast> : tensor<?x32xf32>, tensor<64x32xf32, #quern.q8_0>
  %y = quern.linear %x, %w activations<fast> : tensor<?x32xf32>, tensor<64x32xf32, #quern.q8_0>
  return %y : tensor<?x64xf32>
}

// CHECK-LABEL: func.func @linear
func.func @linear(%x: tensor<?x32xf32>, %w: tensor<64x32xf32, #quern.f16>, %b: tensor<64xf32>) -> tensor<?x64xf32> {
  // CHECK: quern.linear %{{.+}}, %{{.+}} bias %{{.+}} activations<int8> : tensor<?x32xf32>, tensor<64x32xf32, #quern.f16>, tensor<64xf32>
  %0 = quern.linear %x, %w bias %b activations<int8> : tensor<?x32xf32>, tensor<64x32xf32, #quern.f16>, tensor<64xf32>
  return %0 : tensor<?x64xf32>
}

// CHECK-LABEL: func.func @norms
func.func @norms(%x: tensor<?x32xf32>, %g: tensor<32xf32>, %head: tensor<8xf32, #quern.bf16>) -> tensor<?x32xf32> {
  // CHECK: quern.rms_norm %{{.+}}, %{{.+}} eps = 9.99999974E-6 : tensor<?x32xf32>, tensor<32xf32>
  %0 = quern.rms_norm %x, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  // CHECK: quern.rms_norm %{{.+}}, %{{.+}} eps = 9.99999997E-7 unit_offset : tensor<?x32xf32>, tensor<8xf32, #quern.bf16>
  %1 = quern.rms_norm %0, %head eps = 1.0e-6 unit_offset : tensor<?x32xf32>, tensor<8xf32, #quern.bf16>
  // CHECK: quern.layer_norm %{{.+}}, %{{.+}} bias %{{.+}} eps = 9.99999974E-6 : tensor<?x32xf32>, tensor<32xf32>, tensor<32xf32>
  %2 = quern.layer_norm %1, %g bias %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>, tensor<32xf32>
  // CHECK: quern.layer_norm %{{.+}}, %{{.+}} eps = 9.99999974E-6 : tensor<?x32xf32>, tensor<32xf32>
  %3 = quern.layer_norm %2, %g eps = 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>
  return %3 : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @attention
func.func @attention(%q: tensor<?x32xf32>, %kv: tensor<?x16xf32>, %cache: !quern.kv_cache<2x2x8xf16, context = 128>,
                     %positions: tensor<?xi32>, %sequences: tensor<?xi32>) -> tensor<?x32xf32> {
  // CHECK: quern.rope %{{.+}}, %{{.+}}, #[[$ROPE]] head_dim = 8 : tensor<?x32xf32>, tensor<?xi32>
  %0 = quern.rope %q, %positions, <neox, factor = 1.0, frequencies = [1.0, 0.1, 0.01, 0.001]> head_dim = 8 : tensor<?x32xf32>, tensor<?xi32>
  // CHECK: %attention, %cache = quern.attention %{{.+}} layer = 1 scale = 1.250000e-01 : tensor<?x32xf32>, tensor<?x16xf32>, !quern.kv_cache<2x2x8xf16, context = 128>, tensor<?xi32>
  %1, %c1 = quern.attention %0, %kv, %kv, %cache, %positions, %sequences layer = 1 scale = 0.125
    : tensor<?x32xf32>, tensor<?x16xf32>, !quern.kv_cache<2x2x8xf16, context = 128>, tensor<?xi32>
  // CHECK: quern.attention %{{.+}} layer = 0 scale = 1.250000e-01 window = 64 softcap = 5.000000e+01 : tensor<?x32xf32>
  %2, %c2 = quern.attention %1, %kv, %kv, %c1, %positions, %sequences layer = 0 scale = 0.125 window = 64 softcap = 50.0
    : tensor<?x32xf32>, tensor<?x16xf32>, !quern.kv_cache<2x2x8xf16, context = 128>, tensor<?xi32>
  return %2 : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @elementwise
func.func @elementwise(%x: tensor<?x32xf32>, %rows: tensor<?xi32>) -> tensor<?x32xf32> {
  // CHECK: quern.gated_activation<silu> %{{.+}}, %{{.+}} : tensor<?x32xf32>
  %0 = quern.gated_activation<silu> %x, %x : tensor<?x32xf32>
  // CHECK: quern.gated_activation<gelu_tanh> %{{.+}}, %{{.+}} : tensor<?x32xf32>
  %1 = quern.gated_activation<gelu_tanh> %x, %0 : tensor<?x32xf32>
  // CHECK: quern.add %{{.+}}, %{{.+}} : tensor<?x32xf32>
  %2 = quern.add %0, %1 : tensor<?x32xf32>
  // CHECK: quern.scale %{{.+}} by 2.400000e+01 : tensor<?x32xf32>
  %3 = quern.scale %2 by 24.0 : tensor<?x32xf32>
  // CHECK: quern.softcap %{{.+}} to 3.000000e+01 : tensor<?x32xf32>
  %4 = quern.softcap %3 to 30.0 : tensor<?x32xf32>
  // CHECK: quern.take_rows %{{.+}}, %{{.+}} : tensor<?x32xf32>, tensor<?xi32>
  %5 = quern.take_rows %4, %rows : tensor<?x32xf32>, tensor<?xi32>
  return %5 : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @experts
func.func @experts(%x: tensor<?x32xf32>, %logits: tensor<?x4xf32>,
                   %up: tensor<4x64x32xf32, #quern.q8_0>, %down: tensor<4x32x64xf32, #quern.q8_0>) -> tensor<?x32xf32> {
  // CHECK: %ids, %weights = quern.route %{{.+}} top_k = 2 normalize : tensor<?x4xf32>
  %ids, %weights = quern.route %logits top_k = 2 normalize : tensor<?x4xf32>
  // CHECK: quern.expert_linear %{{.+}}, %{{.+}}, %ids activations<q8> : tensor<?x32xf32>, tensor<4x64x32xf32, #quern.q8_0>, tensor<?x2xi32>
  %0 = quern.expert_linear %x, %up, %ids activations<q8> : tensor<?x32xf32>, tensor<4x64x32xf32, #quern.q8_0>, tensor<?x2xi32>
  // CHECK: quern.gated_activation<silu> %{{.+}} : tensor<?x2x64xf32>
  %1 = quern.gated_activation<silu> %0, %0 : tensor<?x2x64xf32>
  // CHECK: quern.expert_linear %{{.+}}, %{{.+}}, %ids activations<bf16> : tensor<?x2x64xf32>, tensor<4x32x64xf32, #quern.q8_0>, tensor<?x2xi32>
  %2 = quern.expert_linear %1, %down, %ids activations<bf16> : tensor<?x2x64xf32>, tensor<4x32x64xf32, #quern.q8_0>, tensor<?x2xi32>
  // CHECK: quern.combine_experts %{{.+}}, %weights : tensor<?x2x32xf32>, tensor<?x2xf32>
  %3 = quern.combine_experts %2, %weights : tensor<?x2x32xf32>, tensor<?x2xf32>
  return %3 : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @formats
func.func @formats(%x: tensor<8x64xf32>) -> tensor<8x64xf32> {
  // CHECK: quern.quantize %{{.+}} : tensor<8x64xf32> to tensor<8x64xf32, #quern.q4_0>
  %0 = quern.quantize %x : tensor<8x64xf32> to tensor<8x64xf32, #quern.q4_0>
  // CHECK: quern.dequantize %{{.+}} : tensor<8x64xf32, #quern.q4_0> to tensor<8x64xf32>
  %1 = quern.dequantize %0 : tensor<8x64xf32, #quern.q4_0> to tensor<8x64xf32>
  return %1 : tensor<8x64xf32>
}

// CHECK-LABEL: func.func @attributes
// CHECK-SAME: #quern.layout<panel, 16>
// CHECK-SAME: #quern.activation<q8>
// CHECK-SAME: #quern.component<scales, @f, offset = 1, size = 2, level = 1>
func.func @attributes() attributes {a = #quern.layout<panel, 16>, b = #quern.activation<q8>,
    c = #quern.component<scales, @f, offset = 1, size = 2, level = 1>} { return }
}
