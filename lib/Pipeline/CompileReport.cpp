//===- CompileReport.cpp - What came of a compilation --------------------===//
//
// Tensors with their formats and kernels, for --info and reports; sizes and memory.
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "quern/Conversion/LinearDesc.h"
#include "quern/Format/Known.h"
#include "quern/Format/Matrix.h"
#include "quern/Format/Size.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace quern;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

json::Array Compilation::tensorTable() {
  json::Array tensors;
  for (auto [w, readers] : llvm::zip(plan.weights, facts[0].readers)) {
    json::Array shape;
    uint64_t elements = 1;
    RankedTensorType type = WeightOp(w.weight).getTensorType();
    for (int64_t d : type.getShape()) {
      shape.push_back(d);
      elements *= uint64_t(d);
    }
    StringRef known = format::knownName(w.spec);
    json::Array kernels;
    for (const std::string &name : readers)
      kernels.push_back(name);
    std::string kernel = llvm::join(readers, " ");
    tensors.push_back(
        json::Object{{"name", WeightOp(w.weight).getSymName().str()},
                     {"shape", std::move(shape)},
                     {"format", known.empty() ? format::print(w.spec) : known.str()},
                     {"bits", double(w.size) * 8 / double(std::max<uint64_t>(elements, 1))},
                     {"bytes", int64_t(w.size)},
                     {"layout", w.panels ? "panel" : "rows"},
                     {"activations", ""},
                     {"kernel", kernel}});
  }
  // How activations enter the products with each weight: what `fast` is, too.
  auto activationName = [&](ActivationFormat format, const PackedWeight &weight) {
    RankedTensorType type = WeightOp(weight.weight).getTensorType();
    int64_t rank = type.getRank();
    if (format == ActivationFormat::Fast && rank >= 2) {
      auto layout = format::PackedLayout::get(weight.spec, type.getDimSize(rank - 2),
                                              type.getDimSize(rank - 1));
      if (layout)
        return conversion::fastActivation(targets[0], *layout) == conversion::Activation::Q8
                   ? StringRef("q8")
                   : StringRef("bf16");
      llvm::consumeError(layout.takeError());
    }
    return stringifyActivationFormat(format);
  };
  owned->module->walk([&](WeightedOpInterface op) {
    auto use = op.getWeightOperand().get().getDefiningOp<UseOp>();
    if (!use)
      return;
    SymbolTable symbols(*owned->module);
    auto weight = symbols.lookup<WeightOp>(use.getWeight());
    StringRef name = weight.isView() ? *weight.getSource() : weight.getSymName();
    for (auto [w, row] : llvm::zip(plan.weights, tensors))
      if (WeightOp(w.weight).getSymName() == name)
        (*row.getAsObject())["activations"] = activationName(op.getActivations(), w);
  });
  return tensors;
}

Expected<std::string> Compilation::metadata() {
  uint64_t decodeBytes = plan.bytes;
  // A gather reads one row; only products read all of a matrix.
  ::llvm::StringSet<> multiplied;
  owned->module->walk([&](WeightedOpInterface op) {
    if (auto use = op.getWeightOperand().get().getDefiningOp<UseOp>())
      multiplied.insert(use.getWeight());
  });
  owned->module->walk([&](EmbeddingOp op) {
    auto use = op.getTable().getDefiningOp<UseOp>();
    if (!use || multiplied.contains(use.getWeight()))
      return;
    for (const PackedWeight &w : plan.weights)
      if (WeightOp(w.weight).getSymName() == use.getWeight())
        decodeBytes -= w.size;
  });
  json::Object object{{"name", config.name},
                      {"architecture", config.architecture},
                      {"context", build.context},
                      {"kv_cache", stringifyCacheElement(build.cache)},
                      {"activations", options.activations},
                      {"decode_bytes", int64_t(decodeBytes)},
                      {"tensors", tensorTable()}};
  if (auto passes = (*owned->module)->getAttrOfType<StringAttr>(QuernDialect::kPassesAttr))
    object["passes"] = passes.getValue(); // it computes something else than the model says
  // Observers, and boundaries with the weights that the part behind each reads first.
  json::Array observers, boundaries;
  SymbolTable symbols(*owned->module);
  ::llvm::StringSet<> seen;
  json::Array *first = nullptr;
  owned->module->walk([&](Operation *op) {
    if (auto boundary = dyn_cast<BoundaryOp>(op)) {
      boundaries.push_back(json::Object{
          {"columns", cast<RankedTensorType>(boundary.getX().getType()).getShape().back()},
          {"weights", json::Array()}});
      first = boundaries.back().getAsObject()->getArray("weights");
    }
    for (Value operand : op->getOperands())
      if (auto use = operand.getDefiningOp<UseOp>()) {
        auto weight = symbols.lookup<WeightOp>(use.getWeight());
        StringRef name = weight && weight.isView() ? *weight.getSource() : use.getWeight();
        if (seen.insert(name).second && first)
          first->push_back(name);
      }
    if (auto observe = dyn_cast<ObserveOp>(op)) {
      json::Array weights;
      for (Attribute name : observe.getWeights())
        weights.push_back(cast<StringAttr>(name).getValue());
      auto type = cast<RankedTensorType>(observe.getX().getType());
      json::Object entry{{"index", observe.getIndex()},
                         {"columns", type.getShape().back()},
                         {"part", int64_t(boundaries.size())},
                         {"weights", std::move(weights)}};
      // Of a mixture: ids of experts, or rows [tokens, chosen experts] that go to one each.
      if (type.getElementType().isInteger())
        entry["ids"] = true;
      if (type.getRank() == 3)
        entry["slices"] = true;
      observers.push_back(std::move(entry));
    }
  });
  if (options.observers)
    object["observers"] = std::move(observers);
  if (options.boundaries)
    object["boundaries"] = std::move(boundaries);
  std::string text;
  llvm::raw_string_ostream(text) << json::Value(std::move(object));
  return text;
}

/// Of outputs that hold no weights.
json::Object Compilation::shortReport() {
  json::Object out{{"model", options.model},
                   // Not in the program itself, whose bytes depend on the model alone.
                   {"name", config.name.empty() ? fileName(options.model) : config.name},
                   {"architecture", config.architecture},
                   {"output", output},
                   {"context", build.context},
                   {"kv_cache", stringifyCacheElement(build.cache)},
                   {"activations", options.activations},
                   {"dry_run", options.dryRun}};
  uint64_t size = 0;
  if (!options.dryRun && !llvm::sys::fs::file_size(output, size))
    out["bytes"] = int64_t(size);
  return out;
}

/// Weights whose rows a format's tiles do not divide, and the bits that padding makes of it.
json::Array Compilation::paddedTable() {
  struct Sum {
    uint64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<std::tuple<std::string, int64_t, int64_t>, Sum> sums;
  for (const PackedWeight &w : plan.weights) {
    int64_t tile = std::max<int64_t>(1, format::storageTile(w.spec));
    auto bytes = format::matrixBytes(w.spec, w.shape.rows, w.shape.cols);
    if (!bytes)
      llvm::consumeError(bytes.takeError());
    else if (w.shape.cols % tile) {
      StringRef known = format::knownName(w.spec);
      Sum &sum = sums[{known.empty() ? format::print(w.spec) : known.str(), w.shape.cols, tile}];
      ++sum.tensors;
      sum.elements += uint64_t(w.shape.matrices * w.shape.rows * w.shape.cols);
      sum.bytes += *bytes * uint64_t(w.shape.matrices);
    }
  }
  json::Array out;
  for (const auto &[key, sum] : sums)
    out.push_back(json::Object{{"format", std::get<0>(key)},
                               {"columns", std::get<1>(key)},
                               {"block", std::get<2>(key)},
                               {"tensors", int64_t(sum.tensors)},
                               {"bits", double(sum.bytes) * 8 / double(std::max<uint64_t>(sum.elements, 1))}});
  return out;
}

json::Object Compilation::report() {
  json::Object formats;
  struct Sum {
    uint64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<std::string, Sum> sums;
  for (const PackedWeight &w : plan.weights) {
    StringRef known = format::knownName(w.spec);
    Sum &sum = sums[known.empty() ? format::print(w.spec) : known.str()];
    ++sum.tensors;
    sum.elements += uint64_t(w.shape.matrices * w.shape.rows * w.shape.cols);
    sum.bytes += w.size;
  }
  for (auto &[name, sum] : sums)
    formats[name] = json::Object{{"tensors", int64_t(sum.tensors)},
                                 {"parameters", int64_t(sum.elements)},
                                 {"bytes", int64_t(sum.bytes)}};
  json::Array targetNames;
  uint64_t scratch = 0;
  for (auto [t, f] : llvm::zip(targets, facts)) {
    targetNames.push_back(json::Object{{"name", t.name}, {"kernels", int64_t(f.kernels)}});
    scratch = std::max(scratch, f.scratchBytes);
  }
  json::Object memory{{"weights", int64_t(plan.bytes)},
                      {"cache_per_sequence", int64_t(facts[0].cacheBytes)},
                      {"scratch", int64_t(scratch)}};
  json::Object out = shortReport();
  out["max_tokens"] = facts[0].maxTokens;
  out["targets"] = std::move(targetNames);
  out["formats"] = std::move(formats);
  out["memory"] = std::move(memory);
  if (json::Array padded = paddedTable(); !padded.empty())
    out["padded"] = std::move(padded);
  if (options.dryRun)
    out["tensors"] = tensorTable();
  return out;
}
