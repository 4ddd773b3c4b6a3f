//===- Recipe.cpp - Reading recipes ---------------------------------------===//
#include "quern/Quantize/Recipe.h"
#include "quern/Support/Json.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

/// Shipped ones, from little work to much.
static constexpr std::pair<llvm::StringLiteral, llvm::StringLiteral> shipped[] = {
    {"fast", R"({"provider": "hessian", "solver": "search"})"},
    {"balanced", R"({"provider": "measured", "solver": "descent"})"},
    {"best", R"({"provider": "measured", "solver": "descent", "measure-effort": 4})"},
};

static Expected<std::string> contentsOf(StringRef name) {
  for (const auto &[known, content] : shipped)
    if (name == known)
      return content.str();
  auto buffer = llvm::MemoryBuffer::getFile(name);
  if (!buffer)
    return createStringError("cannot read the recipe '" + name + "': " +
                             buffer.getError().message() + "; shipped ones: fast, balanced, best");
  return (*buffer)->getBuffer().str();
}

Expected<Recipe> quern::quantize::readRecipe(StringRef name) {
  auto bad = [&](const llvm::Twine &what) {
    return createStringError("recipe '" + name + "': " + what);
  };
  Expected<std::string> text = contentsOf(name);
  if (!text)
    return text.takeError();
  Expected<json::Value> parsed = parseJson(*text, ("recipe '" + name + "'").str());
  if (!parsed)
    return parsed.takeError();
  const json::Object *object = parsed->getAsObject();
  if (object && object->getObject("recipe"))
    object = object->getObject("recipe"); // of a report
  if (!object)
    return bad("expected a JSON object");
  Recipe out;
  auto add = [&](StringRef key, const json::Value &value) {
    if (auto string = value.getAsString())
      out.options.push_back({key.str(), string->str()});
    else if (value.getAsNumber())
      out.options.push_back({key.str(), llvm::formatv("{0}", value).str()});
    else if (value.getAsBoolean() == true)
      out.options.push_back({key.str(), std::nullopt});
    else
      return false;
    return true;
  };
  for (const auto &[key, value] : *object) {
    StringRef option = key;
    if (const json::Object *inputs = value.getAsObject(); inputs && option == "inputs") {
      out.inputs = *inputs;
      continue;
    }
    if (option == "recipe")
      return bad("a recipe names no other");
    bool good = true;
    if (const json::Array *values = value.getAsArray())
      for (const json::Value &each : *values)
        good = good && add(option, each);
    else
      good = good && add(option, value);
    if (!good)
      return bad("'" + option + "' needs a string, a number or true");
  }
  // Objects have no order of their own.
  llvm::stable_sort(out.options, [](const Recipe::Option &a, const Recipe::Option &b) {
    return a.name < b.name;
  });
  return out;
}

Error quern::quantize::checkInputs(const json::Object &expected, const json::Object &found) {
  for (StringRef kind : {"model", "text", "statistics", "cost", "allocation"}) {
    auto before = expected.getString(kind), now = found.getString(kind);
    if (before && now && *before != *now)
      return createStringError("the recipe was made with another " + kind + ": expected contents " +
                               *before + ", found " + *now);
  }
  return Error::success();
}
