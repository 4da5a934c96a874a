/// Stop strings: the text ends before the first of them, wherever tokens begin and end.
enum StopStrings {
    /// Returns the position at which the first stop string in `text` begins, or -1.
    static func find(_ text: Points, _ stops: [Points]) -> Int {
        var first = -1
        for stop in stops where stop.count <= text.count {
            let starts = 0...(text.count - stop.count)
            if let position = starts.first(where: { text[$0...].starts(with: stop) }), first < 0 || position < first {
                first = position
            }
        }
        return first
    }

    /// Returns the length of the longest end of `text` that may be the beginning of a stop string.
    static func unfinished(_ text: Points, _ stops: [Points]) -> Int {
        var longest = 0
        for stop in stops {
            for length in 1..<max(1, stop.count) where length > longest && length <= text.count {
                if text.suffix(length).elementsEqual(stop.prefix(length)) { longest = length }
            }
        }
        return longest
    }
}
