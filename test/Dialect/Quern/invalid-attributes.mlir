// RUN: quern-opt %s --split-input-file --verify-diagnostics

// Formats: every rule of the algebra, with the Format library's words.

// expected-error @below {{malformed format: }}
func.func @unknown_number(%x: tensor<4x32xf32, #quern.format<q9, scale f16[1x32]>>) { return }

// -----

// expected-error @below {{malformed format: }}
func.func @too_wide(%x: tensor<4x32xf32, #quern.format<i33>>) { return }

// -----

// expected-error @below {{malformed format: }}
func.func @empty(%x: tensor<4x32xf32, #quern.format<>>) { return }

// -----

// expected-error @below {{malformed format: }}
func.func @trailing(%x: tensor<4x32xf32, #quern.format<i4, scale f16[1x32] and more>>) { return }

// -----

// expected-error @below {{malformed format: }}
func.func @negative_tile(%x: tensor<4x32xf32, #quern.format<i4, scale f16[1x-32]>>) { return }

// -----

// A second level must divide the first.
// expected-error @below {{malformed format: }}
func.func @levels(%x: tensor<4x256xf32, #quern.format<i4, scale f16[1x256] * ui6[1x48]>>) { return }

// -----

// expected-error @below {{'q4_Z' is neither an attribute of 'quern' nor the name of a format}}
func.func @unknown_name(%x: tensor<4x32xf32, #quern.q4_Z>) { return }

// -----

// expected-error @below {{a tensor with a format is logically f32, found 'f16'}}
func.func @element(%x: tensor<4x32xf16, #quern.q4_0>) { return }

// -----

// expected-error @below {{a tensor with a format is logically f32, found 'i32'}}
func.func @integers(%x: tensor<4x32xi32, #quern.q4_0>) { return }

// -----

// expected-error @below {{needs at least one dimension}}
func.func @scalar(%x: tensor<f32, #quern.f16>) { return }

// -----

// expected-error @below {{has no empty dimension}}
func.func @empty_dimension(%x: tensor<0x32xf32, #quern.q4_0>) { return }

// -----

// expected-error @below {{a panel layout needs a number of rows}}
func.func @panel() attributes {l = #quern.layout<panel>} { return }

// -----

// expected-error @below {{only a panel layout has a number of rows, found 16}}
func.func @gguf_rows() attributes {l = #quern.layout<gguf, 16>} { return }

// -----

// expected-error @below {{expected ::quern::LayoutKind to be one of: canonical, gguf, panel}}
// expected-error @below {{failed to parse Quern_LayoutAttr parameter 'kind'}}
func.func @layout() attributes {l = #quern.layout<tiled>} { return }

// -----

// expected-error @below {{expected ::quern::ActivationFormat to be one of: fast, f32, bf16, q8, int8}}
// expected-error @below {{failed to parse Quern_ActivationAttr parameter 'value'}}
func.func @activation() attributes {a = #quern.activation<f8>} { return }

// -----

// expected-error @below {{expected ::quern::ComponentRole to be one of: data, codes, scales, offsets, zeros, table}}
// expected-error @below {{failed to parse Quern_ComponentAttr parameter 'role'}}
func.func @role() attributes {c = #quern.component<bits, @f, offset = 0, size = 1>} { return }

// -----

// expected-error @below {{expected '='}}
func.func @component() attributes {c = #quern.component<data, @f, offset 0, size = 1>} { return }

// -----

// expected-error @below {{rope needs at least one frequency}}
func.func @no_frequency() attributes {r = #quern.rope<neox, factor = 1.0, frequencies = []>} { return }

// -----

// expected-error @below {{rope frequencies must be finite and not negative}}
func.func @frequency() attributes {r = #quern.rope<neox, factor = 1.0, frequencies = [-1.0]>} { return }

// -----

// expected-error @below {{the factor of a rope must be a finite f32}}
func.func @factor() attributes {r = #quern.rope<neox, factor = 0x7f800000, frequencies = [1.0]>} { return }

// -----

// expected-error @below {{expected one of [neox, interleaved]}}
func.func @pairing() attributes {r = #quern.rope<odd, factor = 1.0, frequencies = [1.0]>} { return }

// -----

// expected-error @below {{expected layers x kv_heads x head_dim, found 2 sizes}}
func.func @cache_sizes(%c: !quern.kv_cache<2x64xf16, context = 128>) { return }

// -----

// expected-error @below {{the sizes of a cache must be positive, found 2x0x64}}
func.func @cache_empty(%c: !quern.kv_cache<2x0x64xf16, context = 128>) { return }

// -----

// expected-error @below {{the context of a cache must be positive, found 0}}
func.func @cache_context(%c: !quern.kv_cache<2x2x64xf16, context = 0>) { return }

// -----

// expected-error @below {{a q8_0 cache needs heads that are a multiple of 32, found 48}}
func.func @cache_groups(%c: !quern.kv_cache<2x2x48xq8_0, context = 128>) { return }

// -----

// expected-error @below {{is too large}}
func.func @cache_overflow(%c: !quern.kv_cache<1000000x1000000x1000000xf32, context = 1000000>) { return }

// -----

// expected-error @below {{expected one of [f32, f16, q8_0, q4]}}
func.func @cache_element(%c: !quern.kv_cache<2x2x64xq4_0, context = 128>) { return }

// -----

// expected-error @below {{'quern.model' must be a dictionary}}
module attributes {quern.model = "llama"} {}

// -----

// expected-error @below {{'quern.model' entry 'layers' must be a string, a number or a flag}}
module attributes {quern.model = {layers = [1]}} {}

// -----

// expected-error @below {{'quern.model' belongs on a module}}
func.func @model() attributes {quern.model = {}} { return }
