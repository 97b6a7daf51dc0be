"""Source code and configuration: read as plain text, with the language in the metadata."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LANGUAGES", "Language"]


@dataclass(frozen=True, slots=True)
class Language:
    """A language, its suffixes and the file names that stand for it (both in lower case)."""

    name: str
    suffixes: tuple[str, ...]
    names: tuple[str, ...] = ()

    @property
    def media_type(self) -> str:
        return f"text/x-{self.name}"


LANGUAGES: tuple[Language, ...] = (
    Language("assembly", (".asm", ".s")),
    Language("awk", (".awk",)),
    Language("c", (".c", ".h")),
    Language("c++", (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx")),
    Language("clojure", (".clj", ".cljs")),
    Language("cmake", (".cmake",), ("cmakelists.txt",)),
    Language("csharp", (".cs",)),
    Language("css", (".css", ".less", ".scss")),
    Language("cuda", (".cu", ".cuh")),
    Language("dart", (".dart",)),
    Language("diff", (".diff", ".patch")),
    Language("dockerfile", (".dockerfile",), ("dockerfile", "containerfile")),
    Language("elixir", (".ex", ".exs")),
    Language("erlang", (".erl", ".hrl")),
    Language("fortran", (".f", ".f90", ".f95")),
    Language("go", (".go",)),
    Language("graphql", (".graphql",)),
    Language("groovy", (".groovy", ".gradle")),
    Language("haskell", (".hs",)),
    Language("hcl", (".hcl", ".tf")),
    Language("ini", (".cfg", ".conf", ".ini", ".properties", ".env")),
    Language("java", (".java",)),
    Language("javascript", (".js", ".cjs", ".mjs", ".jsx")),
    Language("julia", (".jl",)),
    Language("kotlin", (".kt", ".kts")),
    Language("lisp", (".lisp", ".el", ".scm")),
    Language("lua", (".lua",)),
    Language("makefile", (".mk",), ("makefile", "gnumakefile")),
    Language("nix", (".nix",)),
    Language("ocaml", (".ml", ".mli")),
    Language("perl", (".pl", ".pm")),
    Language("php", (".php",)),
    Language("powershell", (".ps1",)),
    Language("protobuf", (".proto",)),
    Language("python", (".py", ".pyi", ".pyx")),
    Language("r", (".r",)),
    Language("roff", tuple(f".{section}" for section in range(1, 9))),
    Language("ruby", (".rb",)),
    Language("rust", (".rs",)),
    Language("scala", (".scala",)),
    Language("shell", (".sh", ".bash", ".zsh", ".fish")),
    Language("sql", (".sql",)),
    Language("svelte", (".svelte",)),
    Language("swift", (".swift",)),
    Language("toml", (".toml",)),
    Language("typescript", (".ts", ".tsx")),
    Language("vue", (".vue",)),
    Language("xml", (".xml", ".xsd", ".xsl", ".svg")),
    Language("yaml", (".yaml", ".yml")),
    Language("zig", (".zig",)),
)
