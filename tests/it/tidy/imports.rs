//! Which files of a crate import which, read from their `use` declarations and their paths.
//!
//! A file imports another if it names an item that is defined there. A name that a module has from a `use` of its own
//! is followed to the file that defines it, so that a `mod.rs` that re-exports its children stands for them and not
//! for itself. To declare a module and to re-export a name imports nothing.
//!
//! Names come from the text, not from the compiler. What a macro defines is looked for in vain; a path to it counts for
//! the last module that was found on the way. Methods are not seen: who calls one names its type somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{Token, closing, code, starts_with, tokens, without_tests};

/// One crate: the files that its root declares, and those that they declare.
#[derive(Default)]
pub(super) struct Crate {
    modules: Vec<Module>,
}

/// A module, in a file of its own or inside another's.
struct Module {
    file: PathBuf,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    uses: Vec<Use>,
    /// Paths outside of `use` declarations.
    paths: Vec<Vec<String>>,
    /// All words outside of `use` declarations.
    words: BTreeSet<String>,
}

/// One name that a `use` declaration brings.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Use {
    /// `None` for `*`.
    name: Option<String>,
    path: Vec<String>,
    is_public: bool,
}

/// For each file those that it imports, each with one path that shows it.
pub(super) type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, String>>;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Module(usize),
    /// An item of this module.
    Item(usize),
}

/// The most that names are followed from `use` to `use`; only a `use` that leads to itself takes more.
const HOPS_MOST: usize = 16;

impl Crate {
    /// Reads a crate from its root, such as `src/lib.rs`. `read` gives the text of a file, if there is one.
    pub(super) fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut read_crate = Self::default();
        read_crate.read_file(root, root.parent().unwrap_or(root), None, read);
        read_crate
    }

    /// Which of its files import which.
    pub(super) fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (at, module) in self.modules.iter().enumerate() {
            let file = imports.entry(module.file.clone()).or_default();
            let of_uses =
                module.uses.iter().filter(|one| one.counts(&module.words)).map(|one| (&one.path, !one.is_glob()));
            let of_paths = module.paths.iter().map(|path| (path, true));
            for (path, needs_item) in of_uses.chain(of_paths) {
                let found = match self.resolve(at, path, 0) {
                    Some(Found::Item(found)) => found,
                    Some(Found::Module(found)) if !needs_item => found,
                    _ => continue,
                };
                let Module { file: to, parent, .. } = &self.modules[found];
                let declares = parent.is_some_and(|parent| self.modules[parent].file == module.file);
                if *to != module.file && !declares {
                    file.entry(to.clone()).or_insert_with(|| path.join("::"));
                }
            }
        }
        imports
    }

    fn read_file(
        &mut self,
        file: &Path,
        children: &Path,
        parent: Option<usize>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> usize {
        let text = read(file).unwrap_or_else(|| panic!("{} is declared and not there", file.display()));
        let code = code(&text);
        let module = self.module(file, parent);
        self.read_items(module, &without_tests(&tokens(&code)), children, read);
        module
    }

    fn module(&mut self, file: &Path, parent: Option<usize>) -> usize {
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            uses: Vec::new(),
            paths: Vec::new(),
            words: BTreeSet::new(),
        });
        self.modules.len() - 1
    }

    fn read_items(
        &mut self,
        module: usize,
        tokens: &[Token<'_>],
        children: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let (mut at, mut depth) = (0, 0_usize);
        while at < tokens.len() {
            let rest = &tokens[at..];
            if let Some(end) = self.read_use(module, tokens, at) {
                at = end;
                continue;
            }
            if rest[0].text == "mod" && rest.len() > 2 && matches!(rest[2].text, ";" | "{") && rest[1].is_word() {
                let name = rest[1].text;
                at = if rest[2].text == ";" {
                    let child = self.declared(name, module, children, read);
                    self.modules[module].children.insert(name.to_owned(), child);
                    at + 3
                } else {
                    let end = closing(tokens, at + 2);
                    let child = self.module(&self.modules[module].file.clone(), Some(module));
                    self.modules[module].children.insert(name.to_owned(), child);
                    self.read_items(child, &tokens[at + 3..end], &children.join(name), read);
                    end + 1
                };
                continue;
            }
            match rest[0].text {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            let this = &mut self.modules[module];
            if depth == 0 {
                this.items.extend(defined(rest));
            }
            if rest[0].is_word() {
                this.words.insert(rest[0].text.to_owned());
                let before = at.checked_sub(1).map_or("", |before| tokens[before].text);
                let path = path_at(rest);
                if path.len() > 1 && !matches!(before, "::" | "." | "'") {
                    this.paths.push(path);
                }
            }
            at += 1;
        }
    }

    /// The file of `mod name;`.
    fn declared(
        &mut self,
        name: &str,
        parent: usize,
        children: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> usize {
        let folder = children.join(name);
        let beside = folder.with_extension("rs");
        let file = if read(&beside).is_some() { beside } else { folder.join("mod.rs") };
        self.read_file(&file, &folder, Some(parent), read)
    }

    /// Reads the `use` declaration here, if there is one, and gives its end.
    fn read_use(&mut self, module: usize, tokens: &[Token<'_>], at: usize) -> Option<usize> {
        // `impl Trait + use<'a>` is another matter.
        if tokens[at].text != "use" || tokens.get(at + 1).is_none_or(|next| next.text == "<") {
            return None;
        }
        let before = at.checked_sub(1).map(|before| tokens[before].text);
        // `)` ends `pub(crate)`.
        let is_public = matches!(before, Some("pub" | ")"));
        let mut end = at + 1;
        let mut found = Vec::new();
        read_use_tree(tokens, &mut end, &[], &mut found);
        self.modules[module].uses.extend(found.into_iter().map(|(name, path)| Use { name, path, is_public }));
        Some(end + 1)
    }

    /// Follows a path from a module. `None` if it leads to another crate or to something local.
    fn resolve(&self, from: usize, path: &[String], hops: usize) -> Option<Found> {
        let (mut here, mut rest) = (from, path);
        let mut is_sure = false;
        while let Some((first, behind)) = rest.split_first() {
            match first.as_str() {
                "crate" => here = 0,
                "self" => {}
                "super" => here = self.modules[here].parent?,
                _ => break,
            }
            (rest, is_sure) = (behind, true);
        }
        for (at, name) in rest.iter().enumerate() {
            let module = &self.modules[here];
            let behind = &rest[at + 1..];
            let child = module.children.get(name);
            if child.is_none() || behind.is_empty() {
                if module.items.contains(name) {
                    return Some(Found::Item(here));
                }
                let by_use = self.resolve_by_use(here, name, behind, hops);
                // What stands behind a module of ours is ours, if we see it or not.
                let unseen = (is_sure && child.is_none()).then_some(Found::Item(here));
                if let Some(found) = by_use.or(unseen) {
                    return Some(found);
                }
            }
            here = *child?;
            is_sure = true;
        }
        is_sure.then_some(Found::Module(here))
    }

    fn resolve_by_use(&self, module: usize, name: &String, behind: &[String], hops: usize) -> Option<Found> {
        if hops == HOPS_MOST {
            return None;
        }
        let uses = &self.modules[module].uses;
        let follow = |path: &[String], behind: &[String]| {
            let path: Vec<String> = path.iter().chain(behind).cloned().collect();
            self.resolve(module, &path, hops + 1)
        };
        let named = uses.iter().filter(|one| one.name.as_ref() == Some(name)).find_map(|one| follow(&one.path, behind));
        named.or_else(|| {
            let globs = uses.iter().filter(|one| one.is_glob());
            let mut modules = globs.filter_map(|one| match follow(&one.path, &[]) {
                Some(Found::Module(found)) if found != module => Some(found),
                _ => None,
            });
            modules.find_map(|found| self.resolve_in(found, name, behind, hops + 1))
        })
    }

    /// As [`Self::resolve`], but only what the module is known to have.
    fn resolve_in(&self, module: usize, name: &String, behind: &[String], hops: usize) -> Option<Found> {
        let here = &self.modules[module];
        if here.children.contains_key(name) || here.items.contains(name) {
            let path: Vec<String> = std::iter::once(name).chain(behind).cloned().collect();
            return self.resolve(module, &path, hops);
        }
        self.resolve_by_use(module, name, behind, hops)
    }
}

impl Use {
    fn is_glob(&self) -> bool {
        self.name.is_none()
    }

    /// Whether it imports: a re-export does if the module uses the name itself.
    fn counts(&self, words: &BTreeSet<String>) -> bool {
        !self.is_public || self.name.as_ref().is_some_and(|name| words.contains(name))
    }
}

/// The name that an item which begins here defines.
fn defined(tokens: &[Token<'_>]) -> Option<String> {
    const KINDS: [&str; 8] = ["fn", "struct", "enum", "union", "trait", "type", "const", "static"];
    let [kind, name, ..] = tokens else { return None };
    if KINDS.contains(&kind.text) && name.is_word() {
        return Some(name.text.to_owned());
    }
    let is_macro = starts_with(tokens, &["macro_rules", "!"]);
    is_macro.then(|| tokens.get(2)).flatten().map(|name| name.text.to_owned())
}

/// The path that begins here: words with `::` between them.
fn path_at(tokens: &[Token<'_>]) -> Vec<String> {
    let mut path = vec![tokens[0].text.to_owned()];
    for pair in tokens[1..].chunks(2) {
        match pair {
            [sign, word] if sign.text == "::" && word.is_word() => path.push(word.text.to_owned()),
            _ => break,
        }
    }
    path
}

/// Reads the names of a `use` declaration from `at` on, which is its `;` in the end.
fn read_use_tree(
    tokens: &[Token<'_>],
    at: &mut usize,
    prefix: &[String],
    found: &mut Vec<(Option<String>, Vec<String>)>,
) {
    let mut path = prefix.to_vec();
    let mut name = None;
    while let Some(token) = tokens.get(*at) {
        match token.text {
            "{" => {
                *at += 1;
                while tokens.get(*at).is_some_and(|token| token.text != "}") {
                    read_use_tree(tokens, at, &path, found);
                    *at += usize::from(tokens.get(*at).is_some_and(|token| token.text == ","));
                }
                *at += 1;
                return;
            }
            "*" => {
                *at += 1;
                found.push((None, path));
                return;
            }
            "as" => {
                name = tokens.get(*at + 1).map(|name| name.text.to_owned());
                *at += 2;
            }
            "self" if !path.is_empty() => *at += 1,
            "," | "}" | ";" => break,
            // A path that begins with `::` leads to another crate, which an empty name does as well.
            "::" if path.is_empty() => path.push(String::new()),
            "::" | "#" => *at += 1,
            word => {
                path.push(word.to_owned());
                *at += 1;
            }
        }
    }
    let name = name.or_else(|| path.last().cloned());
    found.push((name, path));
}

/// The circles: sets of files of which each imports, by way of others, every other one.
pub(super) fn circles(imports: &Imports) -> Vec<BTreeSet<PathBuf>> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (file, reached_from(file, imports))).collect();
    let mut circles = BTreeSet::new();
    for (file, from_file) in &reached {
        let circle = from_file.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)));
        let circle: BTreeSet<PathBuf> = circle.map(|other| (*other).clone()).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reached_from<'a>(file: &PathBuf, imports: &'a Imports) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&PathBuf> = imports[file].keys().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(imports.get(next).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}

mod tests {
    use super::*;

    /// The imports of a crate of these files, as `from -> to` without endings.
    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let read =
            |path: &Path| files.iter().find(|(file, _)| Path::new(file) == path).map(|(_, text)| (*text).to_owned());
        let imports = Crate::read(Path::new(files[0].0), &read).imports();
        let arrows = imports.iter().flat_map(|(from, to)| {
            to.keys()
                .map(move |to| format!("{} -> {}", from.with_extension("").display(), to.with_extension("").display()))
        });
        arrows.collect()
    }

    #[test]
    fn a_use_imports_the_file_that_defines_the_name() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::{self, B, c::*, nested::{C as D}};\nuse std::b::X;"),
            ("b/mod.rs", "pub mod c; pub mod nested; pub struct B;"),
            ("b/c.rs", "pub fn f() {}"),
            ("b/nested.rs", "pub struct C;"),
        ];
        assert_eq!(imports(&files), ["a -> b/c", "a -> b/mod", "a -> b/nested"]);
    }

    #[test]
    fn a_re_export_stands_for_the_file_behind_it_and_imports_nothing() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use b::{B, C}; pub(crate) use b::*;"),
            ("a.rs", "use crate::b::B;\nfn f(_: super::C) {}"),
            ("b/mod.rs", "mod c; pub(crate) use c::C; pub use self::c::B;"),
            ("b/c.rs", "pub struct B; pub struct C;"),
        ];
        assert_eq!(imports(&files), ["a -> b/c"]);
    }

    #[test]
    fn a_module_that_uses_what_it_re_exports_imports_it() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "pub struct A;"),
            ("b.rs", "pub use crate::a::A; fn f(_: A) {}"),
            ("c.rs", "pub use crate::a::A;"),
        ];
        assert_eq!(imports(&files), ["b -> a"]);
    }

    #[test]
    fn what_a_module_declares_it_does_not_import() {
        let files = [
            ("lib.rs", "mod a; use a::A; fn f(_: A) { a::b::f(); }"),
            ("a/mod.rs", "mod b; use b::B; pub struct A; fn f(_: B) { self::b::f(); }"),
            ("a/b.rs", "pub struct B; pub fn f(_: super::A) {}"),
        ];
        assert_eq!(imports(&files), ["a/b -> a/mod", "lib -> a/b"]);
    }

    #[test]
    fn paths_in_the_code_import_as_well() {
        let files = [
            ("lib.rs", "mod a; mod b; fn f() {}"),
            ("a.rs", "use super::b as other; fn f() { crate::f(); other::deep::<u32>(); x.b::<u32>() }"),
            ("b.rs", "pub fn deep() { let _ = Vec::<u32>::new(); a::f(); $crate::a::f() }"),
        ];
        assert_eq!(imports(&files), ["a -> b", "a -> lib", "b -> a"]);
    }

    #[test]
    fn modules_within_a_file_are_of_that_file() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod inner { use super::super::b::B; mod deeper { use crate::b::C; } pub struct I; }"),
            ("b.rs", "pub struct B; pub struct C; use crate::a::inner::I;"),
        ];
        assert_eq!(imports(&files), ["a -> b", "b -> a"]);
    }

    #[test]
    fn what_a_macro_defines_counts_for_the_module_it_is_looked_for_in() {
        let files = [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::Made;"), ("b.rs", "make!(Made);")];
        assert_eq!(imports(&files), ["a -> b"]);
    }

    #[test]
    fn tests_and_comments_import_nothing() {
        let files = [
            ("lib.rs", "mod a; #[cfg(test)] mod not_there;"),
            (
                "a.rs",
                "//! [`crate::f`]\n/* crate::f() */ const S: &str = \"crate::f\";\n#[cfg(test)] mod tests { use crate::f; }",
            ),
        ];
        assert_eq!(imports(&files), [""; 0]);
    }

    #[test]
    fn a_use_that_leads_to_itself_ends() {
        let files = [
            ("lib.rs", "mod a; pub use a::X; use a::*; use crate::Y;"),
            ("a.rs", "pub use crate::X; use super::*; pub use crate::Y;"),
        ];
        imports(&files);
    }

    #[test]
    fn circles_are_found_and_chains_are_none() {
        let imports = |arrows: &[(&str, &str)]| {
            let mut imports = Imports::new();
            for (from, to) in arrows {
                imports.entry(to.into()).or_default();
                imports.entry(from.into()).or_default().insert(to.into(), String::new());
            }
            circles(&imports)
        };
        assert_eq!(imports(&[("a", "b"), ("b", "c"), ("a", "c")]), []);
        let circle = |files: &[&str]| files.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        let two = imports(&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "c")]);
        assert_eq!(two, [circle(&["a", "b"]), circle(&["c", "d", "e"])]);
    }
}
