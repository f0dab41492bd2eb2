//! The commands in remedies and other advice: an operator copies them into a shell, where they must
//! do what they say.

use std::fmt::{self, Write as _};

/// A name as one word of a command, in quotes where a shell would read it as anything else.
#[derive(Debug, Clone, Copy)]
pub struct Word<'a>(pub &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |it: char| it.is_alphanumeric() || "-_./:,@+%".contains(it);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        f.write_char('\'')?;
        for character in self.0.chars() {
            match character {
                '\'' => f.write_str(r"'\''")?,
                other => f.write_char(other)?,
            }
        }
        f.write_char('\'')
    }
}

/// Advice that the site of a subcloud gives, for its system controller: the commands in it act on
/// that site there, and not on the controller's own.
pub fn advice_at(advice: &str, subcloud: &str) -> String {
    const BEGIN: &str = "`system ";
    let mut text = String::new();
    let mut rest = advice;
    while let Some(begin) = rest.find(BEGIN) {
        let inside = begin + BEGIN.len();
        // An earlier version put no names in quotes: an apostrophe of one may never end.
        let end = end_of_command(&rest[inside..]).or_else(|| rest[inside..].find('`'));
        let Some(length) = end else {
            break;
        };
        let (command, further) = rest.split_at(inside + length);
        text += &format!("{command} --subcloud {}`", Word(subcloud));
        // The mark that ended this command begins no other.
        rest = &further[1..];
    }
    text + rest
}

/// Where the mark is that ends a command: a name in quotes may have such a mark in it.
fn end_of_command(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.find(|character| {
        let ends = character == '`' && !quoted && !escaped;
        quoted ^= character == '\'' && !escaped;
        escaped = character == '\\' && !quoted && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_of_a_command() {
        for (name, expected) in [
            ("management-ipv6", "management-ipv6"),
            ("a.b_c:d/e,f@g+h%i", "a.b_c:d/e,f@g+h%i"),
            ("bürö", "bürö"),
            ("", "''"),
            ("a b", "'a b'"),
            ("a;reboot", "'a;reboot'"),
            ("$(reboot)", "'$(reboot)'"),
            ("~", "'~'"),
            ("it's", r"'it'\''s'"),
            ("\"a\"", "'\"a\"'"),
            ("a\\b", r"'a\b'"),
        ] {
            assert_eq!(Word(name).to_string(), expected);
        }
    }

    #[test]
    fn the_commands_of_an_advice_act_on_the_subcloud() {
        let said = |advice| advice_at(advice, "sc-1");
        for (advice, expected) in [
            ("give another name", "give another name"),
            (
                "`system host-lock controller-0`, then `system host-unlock controller-0`",
                "`system host-lock controller-0 --subcloud sc-1`, then `system host-unlock \
                 controller-0 --subcloud sc-1`",
            ),
            (
                "lock `a` first: `system x`",
                "lock `a` first: `system x --subcloud sc-1`",
            ),
            // It is a command of the controller, or says where already.
            (
                "`tandem system addrpool-list --subcloud sc-2`, `tandem dcmanager subcloud list`",
                "`tandem system addrpool-list --subcloud sc-2`, `tandem dcmanager subcloud list`",
            ),
            (
                "cut off: `system host-lock cont",
                "cut off: `system host-lock cont",
            ),
            (
                "`system a it's`, `system b`",
                "`system a it's --subcloud sc-1`, `system b --subcloud sc-1`",
            ),
            // Names of an earlier version may have such marks.
            (
                r"`system a 'b`c'\''`d'`, `system e`",
                r"`system a 'b`c'\''`d' --subcloud sc-1`, `system e --subcloud sc-1`",
            ),
        ] {
            assert_eq!(said(advice), expected);
        }
        let told = advice_at("`system x`", "not; a name");
        assert_eq!(told, "`system x --subcloud 'not; a name'`");
    }
}
