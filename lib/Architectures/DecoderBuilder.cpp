//===- DecoderBuilder.cpp - The words architectures are written in --------===//
//
// The frame every decoder shares, and its ops.
//
//===----------------------------------------------------------------------===//
#include "DecoderBuilder.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace quern;
using namespace quern::architectures;

DecoderBuilder::DecoderBuilder(MLIRContext &context, const import::ModelFile &model,
                               const import::ModelConfig &config, const BuildOptions &options)
    : config(config), model(model), options(options), builder(&context), globals(&context),
      loc(UnknownLoc::get(&context)), module(ModuleOp::create(loc)) {
  if (this->options.context == 0)
    this->options.context = config.context;
}

llvm::Expected<OwningOpRef<ModuleOp>> DecoderBuilder::build(const Architecture &architecture) {
  auto indices = RankedTensorType::get({ShapedType::kDynamic}, builder.getI32Type());
  auto logits = RankedTensorType::get({ShapedType::kDynamic, config.vocab}, builder.getF32Type());
  std::string problem;
  KvCacheType cacheType;
  {
    ScopedDiagnosticHandler capture(builder.getContext(), [&](Diagnostic &diagnostic) {
      problem = diagnostic.str();
      return success();
    });
    cacheType = KvCacheType::getChecked(loc, builder.getContext(), config.layers, config.kvHeads,
                                        config.headDim, options.cache, options.context);
  }
  if (!cacheType)
    return llvm::createStringError(model.path + ": " + problem);
  auto forward =
      func::FuncOp::create(at("forward"), "forward",
                           builder.getFunctionType({indices, indices, indices, indices, cacheType},
                                                   {logits, cacheType}));
  module->push_back(forward);
  globals.setInsertionPoint(forward);
  addHyperParameters();
  declareFiles();

  Block *entry = forward.addEntryBlock();
  builder.setInsertionPointToStart(entry);
  tokens = entry->getArgument(0);
  positions = entry->getArgument(1);
  sequences = entry->getArgument(2);
  outputs = entry->getArgument(3);
  cache = entry->getArgument(4);

  Value table = weight("token_embd.weight", {config.vocab, config.width});
  Value x = EmbeddingOp::create(builder, at("token_embd"), tokens, table);
  if (config.embeddingScale != 1)
    x = ScaleOp::create(builder, at("token_embd.scale"), x, APFloat(float(config.embeddingScale)));
  for (layer = 0; layer < config.layers; ++layer)
    x = architecture.layer(*this, x);
  x = TakeRowsOp::create(builder, at("outputs"), x, outputs);
  x = RMSNormOp::create(builder, at("output_norm"), x, weight("output_norm.weight", {config.width}),
                        APFloat(float(config.normEps)), config.normUnitOffset);
  if (!config.tiedEmbedding)
    table = weight("output.weight", {config.vocab, config.width});
  x = product("output", x, table, Value());
  if (config.finalSoftcap != 0)
    x = SoftcapOp::create(builder, at("output.softcap"), x, APFloat(float(config.finalSoftcap)));
  func::ReturnOp::create(builder, at("forward"), ValueRange{x, cache});

  if (errors.empty())
    checkAllUsed();
  if (!errors.empty())
    return llvm::createStringError(llvm::join(errors, "\n"));
  return std::move(module);
}

//===----------------------------------------------------------------------===//
// Ops with weights
//===----------------------------------------------------------------------===//

int64_t DecoderBuilder::widthOf(Value x) const {
  return cast<RankedTensorType>(x.getType()).getShape().back();
}

ActivationFormat DecoderBuilder::activationsFor(Value weight) const {
  bool plain = getFormat(cast<RankedTensorType>(weight.getType())).isPlain();
  return plain ? ActivationFormat::F32 : options.activations;
}

Value DecoderBuilder::product(const Twine &name, Value x, Value weight, Value bias) {
  return LinearOp::create(builder, at(name), x, weight, bias, activationsFor(weight));
}

Value DecoderBuilder::linear(Value x, StringRef name, int64_t rows, Bias bias) {
  std::string stem = inLayer(name);
  Value matrix = weight(stem + ".weight", {rows, widthOf(x)});
  Value vector;
  if (bias == Bias::Required || model.find(stem + ".bias"))
    vector = weight(stem + ".bias", {rows});
  return product(stem, x, matrix, vector);
}

Value DecoderBuilder::linearOfRows(Value x, StringRef name, StringRef fused, int64_t fusedRows,
                                   int64_t begin, int64_t rows) {
  std::string stem = inLayer(fused), view = inLayer(name);
  weight(stem + ".weight", {fusedRows, widthOf(x)});
  Value matrix = use(declareView(weights.at(stem + ".weight"), view + ".weight", begin, rows));
  Value vector;
  if (model.find(stem + ".bias")) {
    weight(stem + ".bias", {fusedRows});
    vector = use(declareView(weights.at(stem + ".bias"), view + ".bias", begin, rows));
  }
  return product(view, x, matrix, vector);
}

Value DecoderBuilder::rmsNorm(Value x, StringRef name) {
  return RMSNormOp::create(builder, at(inLayer(name)), x,
                           weight(inLayer(name) + ".weight", {widthOf(x)}),
                           APFloat(float(config.normEps)), config.normUnitOffset);
}

Value DecoderBuilder::headNorm(Value x, StringRef name) {
  return RMSNormOp::create(builder, at(inLayer(name)), x,
                           weight(inLayer(name) + ".weight", {config.headDim}),
                           APFloat(float(config.normEps)), config.normUnitOffset);
}

Value DecoderBuilder::expertLinear(Value x, StringRef name, int64_t rows, Value ids) {
  Value stack = weight(inLayer(name) + ".weight", {config.experts, rows, widthOf(x)});
  return ExpertLinearOp::create(builder, at(inLayer(name)), x, stack, ids, activationsFor(stack));
}

//===----------------------------------------------------------------------===//
// Ops without
//===----------------------------------------------------------------------===//

RopeAttr DecoderBuilder::ropeFor(const import::RopeConfig &rope) const {
  return RopeAttr::get(builder.getContext(),
                       rope.interleaved ? RopePairing::Interleaved : RopePairing::NeoX,
                       rope.attentionFactor, rope.forContext(options.context));
}

Value DecoderBuilder::rope(Value x) {
  const import::RopeConfig &local =
      config.localRope.frequencies.empty() ? config.rope : config.localRope;
  return RopeOp::create(builder, at(inLayer("rope")), x, positions,
                        ropeFor(isLocal() ? local : config.rope), config.headDim);
}

Value DecoderBuilder::attention(Value q, Value k, Value v) {
  IntegerAttr window;
  FloatAttr softcap;
  if (isLocal())
    window = builder.getI64IntegerAttr(config.slidingWindow);
  if (config.attentionSoftcap != 0)
    softcap = builder.getF32FloatAttr(config.attentionSoftcap);
  auto op = AttentionOp::create(builder, at(inLayer("attention")), q.getType(), cache.getType(), q,
                                k, v, cache, positions, sequences, builder.getI64IntegerAttr(layer),
                                builder.getF32FloatAttr(config.attentionScale), window, softcap);
  cache = op.getNewCache();
  return op.getOutput();
}

Value DecoderBuilder::gated(Value gate, Value up) {
  // readConfig has checked the name.
  Gate function = symbolizeGate(config.activation).value_or(Gate::SiLU);
  return GatedActivationOp::create(builder, at(inLayer("gate")), gate, up, function);
}

Value DecoderBuilder::add(Value a, Value b) {
  return AddOp::create(builder, at(inLayer("add")), a, b);
}

std::pair<Value, Value> DecoderBuilder::route(Value logits) {
  auto op = RouteOp::create(builder, at(inLayer("route")), logits, config.expertsUsed,
                            config.normalizeExpertWeights);
  return {op.getIds(), op.getWeights()};
}

Value DecoderBuilder::combineExperts(Value x, Value weights) {
  return CombineExpertsOp::create(builder, at(inLayer("combine")), x, weights);
}

//===----------------------------------------------------------------------===//
// What several architectures share
//===----------------------------------------------------------------------===//

DecoderBuilder::Heads DecoderBuilder::projectHeads(Value x) {
  int64_t q = config.heads * config.headDim, kv = config.kvHeads * config.headDim;
  Bias bias = config.attentionBias ? Bias::Required : Bias::IfPresent;
  return {linear(x, "attn_q", q, bias), linear(x, "attn_k", kv, bias),
          linear(x, "attn_v", kv, bias)};
}

Value DecoderBuilder::attend(const Heads &heads) {
  return linear(attention(rope(heads.q), rope(heads.k), heads.v), "attn_output", config.width);
}

Value DecoderBuilder::feedForward(Value x) {
  Value gate = linear(x, "ffn_gate", config.feedForward);
  Value up = linear(x, "ffn_up", config.feedForward);
  return linear(gated(gate, up), "ffn_down", config.width);
}
