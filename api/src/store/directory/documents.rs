//! A file's documents, each by itself.
//!
//! A YAML parser that meets a mistake cannot go on to the next document, and one mistake must not silence a whole file. So files
//! are cut first, where YAML allows nothing but a document marker: at `---` in the first column (YAML 1.2 section 9.1.2; within a
//! scalar that is forbidden too). `kubectl` cuts at the same places.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// Its number in the file, from 1.
    pub(super) number: usize,
    /// The line that it begins at, from 1.
    pub(super) line: usize,
    /// Its text.
    pub(super) text: &'a str,
}

/// The documents of a file but for empty ones, which are counted but not returned.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut number, mut start, mut line) = (1, 0, 1);
    let mut offset = 0;
    for (index, content) in text.split_inclusive('\n').enumerate() {
        if is_marker(content) {
            let before = Document { number, line, text: &text[start..offset] };
            // What stands before the first marker is a document only if there is something in it.
            let counted = start > 0 || !is_blank(before.text);
            documents.push(before);
            number += usize::from(counted);
            (start, line) = (offset + MARKER.len(), index + 1);
        }
        offset += content.len();
    }
    documents.push(Document { number, line, text: &text[start..] });
    documents.retain(|document| !is_blank(document.text));
    for document in &mut documents {
        let blank = document.text.split_inclusive('\n').take_while(|line| is_blank(line)).map(str::len);
        let blank: Vec<usize> = blank.collect();
        document.line += blank.len();
        document.text = &document.text[blank.iter().sum()..];
    }
    documents
}

const MARKER: &str = "---";

fn is_marker(line: &str) -> bool {
    line.strip_prefix(MARKER).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Nothing but space, comments, directives and the end marker.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let content = line.trim();
        content.is_empty() || content.starts_with('#') || line.starts_with('%') || line.trim_end() == "..."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(usize, usize, &str)]) {
        let documents: Vec<_> = split(text).into_iter().map(|d| (d.number, d.line, d.text.trim_end())).collect();
        assert_eq!(documents, expected, "{text:?}");
    }

    #[test]
    fn documents_keep_their_numbers_and_lines() {
        check("", &[]);
        check("# only a comment\n", &[]);
        check("a: 1\n", &[(1, 1, "a: 1")]);
        check("---\na: 1\n", &[(1, 2, "a: 1")]);
        check("# head\n---\na: 1\n---\nb: 2\n", &[(1, 3, "a: 1"), (2, 5, "b: 2")]);
        check("a: 1\n---\n---\nb: 2", &[(1, 1, "a: 1"), (3, 4, "b: 2")]);
        check("a: 1\n---\n# nothing\n---\nb: 2\n---\n", &[(1, 1, "a: 1"), (3, 5, "b: 2")]);
        check("a: 1\r\n--- # note\r\nb: 2\r\n", &[(1, 1, "a: 1"), (2, 3, "b: 2")]);
        check("a: 1\n--- {b: 2}\n", &[(1, 1, "a: 1"), (2, 2, " {b: 2}")]);
        check("a: |\n  ---\n  text\n---x: 1\n", &[(1, 1, "a: |\n  ---\n  text\n---x: 1")]);
        check("%YAML 1.2\n---\na: 1\n...\n", &[(1, 3, "a: 1\n...")]);
        check("\u{feff}a: 1\n", &[(1, 1, "a: 1")]);
    }
}
