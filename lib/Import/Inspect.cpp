//===- Inspect.cpp - What lies in a model file ----------------------------===//
//
// One report as JSON, one as text.
//
//===----------------------------------------------------------------------===//
#include "quern/Import/Inspect.h"
#include "quern/Format/Size.h"
#include "quern/Import/ModelConfig.h"
#include "quern/Support/Json.h"
#include "quern/Support/Printable.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>
#include <map>

using namespace llvm;

namespace quern::import {
namespace {

constexpr size_t longArray = 16, longText = 200;

/// JSON has no NaN or infinity, and an interactive report no room for 50,000 tokens.
json::Value abridge(const json::Value &value, bool full) {
  if (const json::Array *array = value.getAsArray()) {
    json::Array result;
    for (const json::Value &item : *array) {
      if (!full && result.size() == 4 && array->size() > longArray)
        return json::Object{{"length", int64_t(array->size())}, {"first", std::move(result)}};
      result.push_back(abridge(item, full));
    }
    return result;
  }
  if (const json::Object *object = value.getAsObject()) {
    json::Object result;
    if (!full && object->size() > 4 * longArray)
      return json::Object{{"keys", int64_t(object->size())}};
    for (const auto &entry : *object)
      result[entry.first] = abridge(entry.second, full);
    return result;
  }
  if (std::optional<StringRef> text = value.getAsString();
      text && !full && text->size() > longText) {
    std::string cut = text->substr(0, longText - 3).str();
    while (!json::isUTF8(cut))
      cut.pop_back();
    return cut + "...";
  }
  if (value.kind() == json::Value::Number)
    if (std::optional<double> number = value.getAsNumber(); number && !std::isfinite(*number))
      return std::isnan(*number) ? "nan" : *number > 0 ? "inf" : "-inf";
  return value;
}

std::string shapeText(const TensorInfo &tensor) {
  std::string text;
  for (int64_t extent : tensor.shape)
    text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text.empty() ? "scalar" : text;
}

std::string bytesText(uint64_t bytes) {
  if (bytes < 10000)
    return std::to_string(bytes) + " B";
  double value = double(bytes);
  for (const char *unit : {"kB", "MB", "GB"}) {
    value /= 1000;
    if (value < 1000 || StringRef(unit) == "GB")
      return formatv("{0:f1} {1}", value, unit);
  }
  return "";
}

struct Total {
  uint64_t tensors = 0, elements = 0, bytes = 0;
};

std::map<std::string, Total> totals(const ModelFile &model, Total &all) {
  std::map<std::string, Total> byType;
  for (const TensorInfo &tensor : model.tensors)
    for (Total *total : {&byType[tensor.fileType], &all}) {
      total->tensors += 1;
      total->elements += tensor.elements();
      total->bytes += tensor.size;
    }
  return byType;
}

json::Object configJson(const ModelConfig &c) {
  json::Object o{{"architecture", c.architecture},
                 {"layers", c.layers},
                 {"width", c.width},
                 {"heads", c.heads},
                 {"kv_heads", c.kvHeads},
                 {"head_dim", c.headDim},
                 {"feed_forward", c.feedForward},
                 {"vocab", c.vocab},
                 {"context", c.context},
                 {"norm_eps", c.normEps},
                 {"rope_theta", c.rope.theta},
                 {"rope_dims", c.rope.dims},
                 {"tied_embedding", c.tiedEmbedding},
                 {"activation", c.activation}};
  if (c.slidingWindow)
    o["sliding_window"] = c.slidingWindow;
  if (c.experts)
    o["experts"] = c.experts;
  if (c.expertsUsed)
    o["experts_used"] = c.expertsUsed;
  return o;
}

} // namespace

json::Object inspect(const ModelFile &model, bool full) {
  json::Array files, tensors;
  for (const SourceFile &file : model.files)
    files.push_back(json::Object{{"path", file.path}, {"bytes", int64_t(file.size)}});
  for (const TensorInfo &tensor : model.tensors) {
    json::Object o{{"name", tensor.name},           {"canonical", tensor.canonical},
                   {"shape", tensor.shape},         {"type", tensor.fileType},
                   {"elements", tensor.elements()}, {"bytes", int64_t(tensor.size)},
                   {"file", int64_t(tensor.file)},  {"offset", int64_t(tensor.offset)}};
    if (tensor.decodable)
      o["format"] = format::print(tensor.spec);
    tensors.push_back(std::move(o));
  }
  Total all;
  json::Object types;
  for (auto &[type, total] : totals(model, all))
    types[type] = json::Object{{"tensors", int64_t(total.tensors)},
                               {"elements", int64_t(total.elements)},
                               {"bytes", int64_t(total.bytes)}};
  json::Object report{{"path", model.path},
                      {"container", model.container == Container::GGUF ? "gguf" : "safetensors"},
                      {"files", std::move(files)},
                      {"tensors", std::move(tensors)},
                      {"types", std::move(types)},
                      {"elements", int64_t(all.elements)},
                      {"bytes", int64_t(all.bytes)},
                      {"metadata", abridge(json::Object(model.metadata), full)}};
  if (Expected<ModelConfig> config = readConfig(model))
    report["config"] = configJson(*config);
  else
    report["config_error"] = toString(config.takeError());
  return report;
}

static void printTensors(const ModelFile &model, raw_ostream &os) {
  if (model.tensors.empty())
    return;
  size_t name = 6, shape = 5, type = 4;
  for (const TensorInfo &tensor : model.tensors) {
    name = std::max(name, printable(tensor.name).size());
    shape = std::max(shape, shapeText(tensor).size());
    type = std::max(type, tensor.fileType.size());
  }
  os << "\n"
     << left_justify("tensor", name) << "  " << right_justify("shape", shape) << "  "
     << left_justify("type", type) << "  " << right_justify("bytes", 10) << "   bits  format\n";
  for (const TensorInfo &tensor : model.tensors) {
    double bits = tensor.elements() ? 8.0 * tensor.size / tensor.elements() : 0;
    os << left_justify(printable(tensor.name), name) << "  "
       << right_justify(shapeText(tensor), shape) << "  " << left_justify(tensor.fileType, type)
       << "  " << right_justify(bytesText(tensor.size), 10) << "  " << llvm::format("%5.2f", bits)
       << "  " << (tensor.decodable ? format::print(tensor.spec) : "-") << "\n";
  }
}

static void printMetadata(const json::Object &metadata, bool full, raw_ostream &os) {
  std::map<std::string, std::string> lines;
  size_t width = 0;
  for (const auto &entry : metadata) {
    json::Value value = abridge(entry.second, full);
    std::string text;
    raw_string_ostream stream(text);
    const json::Object *cut = value.getAsObject();
    std::optional<int64_t> length = cut ? integerOf(*cut, "length") : std::nullopt;
    if (length && cut->get("first"))
      stream << *length << " elements: " << *cut->get("first") << " ...";
    else
      stream << value;
    std::string key = printable(entry.first);
    width = std::max(width, key.size());
    lines[key] = printable(text);
  }
  if (!lines.empty())
    os << "\n";
  for (auto &[key, text] : lines)
    os << left_justify(key, width) << "  " << text << "\n";
}

static void printHeading(const ModelFile &model, const Total &all, raw_ostream &os) {
  os << model.path << ": " << (model.container == Container::GGUF ? "GGUF" : "safetensors");
  if (model.files.size() > 1)
    os << ", " << model.files.size() << " files";
  os << ", " << all.tensors << " tensors, " << all.elements << " elements, " << bytesText(all.bytes)
     << "\n";
}

static void printTypes(const std::map<std::string, Total> &byType, raw_ostream &os) {
  for (auto &[type, total] : byType)
    os << "  " << left_justify(type, 8) << right_justify(std::to_string(total.tensors), 6)
       << " tensors  " << right_justify(bytesText(total.bytes), 10) << "\n";
}

void printTotals(const ModelFile &model, raw_ostream &os) {
  Total all;
  std::map<std::string, Total> byType = totals(model, all);
  printHeading(model, all, os);
  printTypes(byType, os);
}

void printInspection(const ModelFile &model, bool full, raw_ostream &os) {
  Total all;
  std::map<std::string, Total> byType = totals(model, all);
  printHeading(model, all, os);
  if (Expected<ModelConfig> c = readConfig(model)) {
    os << c->architecture << ": " << c->layers << " layers, width " << c->width << ", " << c->heads
       << " heads of " << c->headDim << " (" << c->kvHeads << " for keys and values), feed-forward "
       << (c->experts ? c->expertFeedForward : c->feedForward);
    if (c->experts)
      os << " in " << c->experts << " experts of which " << c->expertsUsed << " are used";
    os << ", vocabulary " << c->vocab << ", context " << c->context << "\n";
  } else {
    os << "hyper-parameters: " << printable(toString(c.takeError())) << "\n";
  }
  printTypes(byType, os);
  printTensors(model, os);
  printMetadata(model.metadata, full, os);
}

} // namespace quern::import
