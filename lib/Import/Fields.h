//===- Fields.h - Typed access to metadata, first error kept -----*- C++ -*-===//
//
// Reading thirty keys without thirty error checks: the first wrong or missing one
// is remembered, and asked for once at the end.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_FIELDS_H
#define QUERN_LIB_IMPORT_FIELDS_H

#include "Common.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <cmath>
#include <string>

namespace quern::import {

class Fields {
public:
  /// Keys are looked up as prefix + key; `where` (a file) starts every message. All readers of one
  /// model share `problem`.
  Fields(const llvm::json::Object &object, std::string prefix, std::string where,
         std::string &problem)
      : object(object), prefix(std::move(prefix)), where(std::move(where)), problem(problem) {}

  /// The value, or null if it is absent or JSON's null.
  const llvm::json::Value *get(llvm::StringRef key) const {
    const llvm::json::Value *value = object.get(prefix + key.str());
    return value && value->kind() != llvm::json::Value::Null ? value : nullptr;
  }
  bool has(llvm::StringRef key) const { return get(key); }

  /// An integer in [low, high]; without it, `out` stays as it is.
  bool integer(llvm::StringRef key, int64_t &out, int64_t low, int64_t high) {
    const llvm::json::Value *value = get(key);
    if (!value)
      return false;
    // Per-layer arrays of one value stand for the value.
    if (const llvm::json::Array *array = value->getAsArray(); array && !array->empty()) {
      for (const llvm::json::Value &item : *array)
        if (item != array->front())
          return fail(key, "differs from layer to layer, which is not supported");
      value = &array->front();
    }
    std::optional<int64_t> n = integerOf(value);
    if (!n || *n < low || *n > high)
      return fail(key, "expected an integer from " + std::to_string(low) + " to " +
                           std::to_string(high) + ", found " + text(*value));
    out = *n;
    return true;
  }
  /// The same, where its absence is an error.
  void required(llvm::StringRef key, int64_t &out, int64_t low, int64_t high) {
    if (!has(key))
      fail(key, "is missing");
    else
      integer(key, out, low, high);
  }
  bool number(llvm::StringRef key, double &out) {
    const llvm::json::Value *value = get(key);
    if (!value)
      return false;
    std::optional<double> n = value->getAsNumber();
    if (!n || !std::isfinite(*n))
      return fail(key, "expected a number, found " + text(*value));
    out = *n;
    return true;
  }
  bool number(llvm::StringRef key, std::optional<double> &out) {
    double value;
    if (!number(key, value))
      return false;
    out = value;
    return true;
  }
  bool boolean(llvm::StringRef key, bool &out) {
    const llvm::json::Value *value = get(key);
    if (!value)
      return false;
    std::optional<bool> b = value->getAsBoolean();
    if (!b)
      return fail(key, "expected true or false, found " + text(*value));
    out = *b;
    return true;
  }
  bool string(llvm::StringRef key, std::string &out) {
    const llvm::json::Value *value = get(key);
    if (!value)
      return false;
    std::optional<llvm::StringRef> s = value->getAsString();
    if (!s)
      return fail(key, "expected a string, found " + text(*value));
    out = s->str();
    return true;
  }
  bool numbers(llvm::StringRef key, std::vector<double> &out) {
    const llvm::json::Value *value = get(key);
    if (!value)
      return false;
    const llvm::json::Array *array = value->getAsArray();
    if (!array)
      return fail(key, "expected a list of numbers, found " + text(*value));
    out.clear();
    for (const llvm::json::Value &item : *array) {
      std::optional<double> n = item.getAsNumber();
      if (!n)
        return fail(key, "expected a list of numbers, found " + text(item) + " in it");
      out.push_back(*n);
    }
    return true;
  }

  /// Remembers the message if it is the first; returns false.
  bool fail(llvm::StringRef key, const std::string &message) {
    if (problem.empty())
      problem = where + ": '" + prefix + key.str() + "': " + message;
    return false;
  }
  bool failed() const { return !problem.empty(); }

private:
  static std::string text(const llvm::json::Value &value) {
    if (value.getAsArray())
      return "a list";
    if (value.getAsObject())
      return "an object";
    std::string result;
    llvm::raw_string_ostream(result) << value;
    return result.size() > 60 ? result.substr(0, 57) + "..." : result;
  }

  const llvm::json::Object &object;
  std::string prefix, where;
  std::string &problem;
};

// Bounds no real model comes near. They keep products of hyper-parameters inside 63 bits and tables
// (rope frequencies) small.
constexpr int64_t maxLayers = 10000, maxWidth = int64_t(1) << 24, maxHeads = 65536,
                  maxHeadDim = 65536, maxVocab = int64_t(1) << 28, maxContext = int64_t(1) << 32,
                  maxExperts = 65536;

} // namespace quern::import

#endif
