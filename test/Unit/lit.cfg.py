# lit configuration of the GoogleTest binaries.
import os
import lit.formats

config.name = "Quern-Unit"
config.test_exec_root = os.path.join(config.quern_build, "test", "Unit")
config.test_source_root = config.test_exec_root
config.test_format = lit.formats.GoogleTest(".", "Tests")
config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.quern_build, "bin"), os.environ["PATH"]])
config.environment["QUERN_SHARED"] = os.environ.get(
    "QUERN_SHARED", os.path.abspath(os.path.join(config.quern_source, "..", "shared")))
if config.sanitize: # as in ../lit.cfg.py
    config.environment["ASAN_OPTIONS"] = "allow_user_poisoning=0"
