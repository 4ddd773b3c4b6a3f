//===- Arguments.h - Options of a subcommand --------------------*- C++ -*-===//
//
// A small table-driven parser: flags, options with a value (`--x V`, `--x=V`), the rest.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TOOLS_ARGUMENTS_H
#define QUERN_TOOLS_ARGUMENTS_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace quern::tool {

class Arguments {
public:
  /// `--json`: sets `value`.
  void flag(llvm::StringRef name, bool &value) { flags.push_back({name.str(), &value}); }
  /// Calls `set` with each value given.
  void option(llvm::StringRef name, std::function<llvm::Error(llvm::StringRef)> set) {
    options.push_back({name.str(), std::move(set)});
  }
  void option(llvm::StringRef name, std::string &value) {
    option(name, [&value](llvm::StringRef text) {
      value = text.str();
      return llvm::Error::success();
    });
  }
  /// A whole number from 1 on.
  template <typename T> void number(llvm::StringRef name, T &value) {
    option(name, [&value, name](llvm::StringRef text) -> llvm::Error {
      if (text.getAsInteger(10, value) || value < 1)
        return llvm::createStringError("'" + name + "' needs a positive number, not '" + text +
                                       "'");
      return llvm::Error::success();
    });
  }
  /// Sets an option or flag (which has no value) as the command line would.
  llvm::Error set(llvm::StringRef name, const std::optional<std::string> &value) const {
    for (const auto &[known, flag] : flags)
      if (known == name) {
        if (value)
          return llvm::createStringError("'" + name + "' takes no value");
        *flag = true;
        return llvm::Error::success();
      }
    for (const auto &[known, apply] : options)
      if (known == name)
        return value ? apply(*value) : llvm::createStringError("'" + name + "' needs a value");
    return llvm::createStringError("unknown option '" + name + "'");
  }
  /// Returns what is no option. `help` is set when help is asked for; nothing else counts then.
  llvm::Expected<std::vector<std::string>> parse(int argc, char **argv, bool &help) const {
    std::vector<std::string> rest;
    for (int i = 1; i < argc; ++i) {
      llvm::StringRef arg = argv[i], value;
      if (arg == "--help" || arg == "-h") {
        help = true;
        return rest;
      }
      if (!arg.starts_with("-") || arg == "-") {
        rest.push_back(arg.str());
        continue;
      }
      bool attached = arg.starts_with("--") && arg.contains('=');
      if (attached)
        std::tie(arg, value) = arg.split('=');
      if (llvm::Error e = take(arg, value, attached, i, argc, argv))
        return std::move(e);
    }
    return rest;
  }

private:
  llvm::Error take(llvm::StringRef arg, llvm::StringRef value, bool attached, int &i, int argc,
                   char **argv) const {
    for (const auto &[name, flag] : flags)
      if (name == arg) {
        if (attached)
          return llvm::createStringError("'" + arg + "' takes no value");
        *flag = true;
        return llvm::Error::success();
      }
    for (const auto &[name, set] : options)
      if (name == arg) {
        if (!attached) {
          if (i + 1 >= argc)
            return llvm::createStringError("'" + arg + "' needs a value");
          value = argv[++i];
        }
        if (value.empty())
          return llvm::createStringError("'" + arg + "' needs a value that is not empty");
        return set(value);
      }
    return llvm::createStringError("unknown option '" + arg + "'");
  }

  std::vector<std::pair<std::string, bool *>> flags;
  std::vector<std::pair<std::string, std::function<llvm::Error(llvm::StringRef)>>> options;
};

} // namespace quern::tool

#endif // QUERN_TOOLS_ARGUMENTS_H
