//===- RecipeTest.cpp - Options as a file ---------------------------------===//
#include "quern/Quantize/Recipe.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"
#include <gtest/gtest.h>

using namespace quern::quantize;

namespace {
llvm::Expected<Recipe> read(llvm::StringRef text) {
  llvm::SmallString<128> path;
  EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("recipe", "json", path));
  std::error_code ec;
  llvm::raw_fd_ostream(path, ec) << text;
  llvm::Expected<Recipe> out = readRecipe(path);
  llvm::sys::fs::remove(path);
  return out;
}

/// `name=value` or `name`, with blanks between.
std::string optionsOf(const Recipe &recipe) {
  std::string out;
  for (const Recipe::Option &option : recipe.options)
    out += (out.empty() ? "" : " ") + option.name + (option.value ? "=" + *option.value : "");
  return out;
}
} // namespace

TEST(Recipe, OptionsInTheOrderOfTheirNames) {
  Recipe recipe = llvm::cantFail(
      read(R"({"solver": "search", "force": true, "override": ["b=F32", "a=F16"], "bits": 4.5,
               "threads": 8, "inputs": {"model": "0123"}})"));
  EXPECT_EQ(optionsOf(recipe),
            "bits=4.5 force override=b=F32 override=a=F16 solver=search threads=8");
  EXPECT_EQ(recipe.inputs.getString("model"), "0123");
  Recipe ofReport = llvm::cantFail(read(R"({"bytes": 7, "recipe": {"bits": 5}})"));
  EXPECT_EQ(optionsOf(ofReport), "bits=5");
  EXPECT_EQ(optionsOf(llvm::cantFail(readRecipe("fast"))), "provider=hessian solver=search");
}

TEST(Recipe, Refusals) {
  for (auto [text, message] : {
           std::pair("[]", "expected a JSON object"),
           std::pair(R"({"text": false})", "'text' needs a string, a number or true"),
           std::pair(R"({"text": null})", "'text' needs a string, a number or true"),
           std::pair(R"({"override": [["a"]]})", "'override' needs a string, a number or true"),
           std::pair(R"({"inputs": 3, "recipe": "fast"})", "a recipe names no other"),
           std::pair(R"({"a": 1, "a": 2})", "occurs twice"),
       }) {
    llvm::Expected<Recipe> recipe = read(text);
    ASSERT_FALSE(bool(recipe)) << text;
    EXPECT_NE(llvm::toString(recipe.takeError()).find(message), std::string::npos) << text;
  }
  EXPECT_NE(llvm::toString(readRecipe("no/such").takeError()).find("shipped ones: fast"),
            std::string::npos);
}

TEST(Recipe, InputsOfOtherContents) {
  using llvm::json::Object;
  Object expected{{"model", "1"}, {"text", "2"}};
  EXPECT_FALSE(bool(checkInputs(expected, Object{{"model", "1"}, {"cost", "3"}})));
  EXPECT_EQ(llvm::toString(checkInputs(expected, Object{{"model", "1"}, {"text", "3"}})),
            "the recipe was made with another text: expected contents 2, found 3");
}
