//! Which texts are keys.

use store::{Key, MAX_KEY_BYTES};

#[test]
fn texts_are_keys_or_say_why_not() {
    let check = |text: &str, expected: &str| {
        let found = match Key::new(text) {
            Ok(key) => key.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    };
    for good in [
        "site",
        "subcloud/7b0c-1",
        "audit/0000000001",
        "a/b/c",
        "x:y_z.1",
        "...",
    ] {
        check(good, good);
    }
    check("", "\"\" is not a key of the store: segment 1 is empty");
    check("/a", "\"/a\" is not a key of the store: segment 1 is empty");
    check(
        "a//b/",
        "\"a//b/\" is not a key of the store: segment 2 is empty; segment 4 is empty",
    );
    check("a/../.", {
        "\"a/../.\" is not a key of the store: segment 2 is \".\" or \"..\"; \
         segment 3 is \".\" or \"..\""
    });
    check("a b/é/", {
        "\"a b/é/\" is not a key of the store: segment 3 is empty; ' ' at byte 1 is not a \
         letter, a digit or one of ._-:/; 'é' at byte 4 is not a letter, a digit or one of ._-:/"
    });
    let longest = "k".repeat(MAX_KEY_BYTES);
    check(&longest, &longest);
    let refusal = format!(
        "\"{longest}\" is not a key of the store: it has 256 bytes, at most 255 are allowed"
    );
    check(&format!("{longest}k"), &refusal);
}
