//! Messages out of hexadecimal digits: what is wrong with one can be seen.

/// Anything but hexadecimal digits is for the reader.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    assert!(digits.len().is_multiple_of(2), "half an octet in {text:?}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A message of any type with any body (RFC 4271 section 4.1).
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("a message that can be written");
    with_length(kind, length, body)
}

/// A message that lies about its length.
pub(crate) fn with_length(kind: u8, length: u16, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// RFC 4271 section 4.3.
pub(crate) fn update(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for block in [withdrawn, attributes] {
        let block = hex(block);
        body.extend(u16::try_from(block.len()).expect("a block that can be written").to_be_bytes());
        body.extend(block);
    }
    body.extend(hex(nlri));
    message(2, &body)
}

/// RFC 4271 section 4.2; the optional parameters with their length in front, as they are.
pub(crate) fn open(asn: u32, hold_time: u16, router_id: [u8; 4], parameters: &[u8]) -> Vec<u8> {
    let mut body = vec![4];
    // RFC 6793 section 4.2.1: AS_TRANS where the number does not fit.
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(hold_time.to_be_bytes());
    body.extend(router_id);
    body.extend(parameters);
    message(1, &body)
}

/// Capabilities in one optional parameter, with the length of all parameters in front (RFC 5492 section 4).
pub(crate) fn capabilities(capabilities: &[u8]) -> Vec<u8> {
    let length = u8::try_from(capabilities.len()).expect("capabilities that fit into one parameter");
    [&[length + 2, 2, length], capabilities].concat()
}
