import Likelihood

// What `martlet settings` says of every setting.

extension DataFiles {
    public static var meanings: [String: SettingMeaning] {
        [
            "train": SettingMeaning(
                "Training examples: an array (npy, npz, file.npz:member, idx), a table, a text, or a folder or tar of images, sounds or texts",
                "a path"),
            "valid": SettingMeaning(
                "Validation examples; without them, and test, the training examples are split", "a path"),
            "test": SettingMeaning("Test examples", "a path"),
            "labels": SettingMeaning(
                "The classes of the examples: a file, several separated by commas (of train, valid and test), or the column of a table",
                "names"),
            "context": SettingMeaning(
                "Real numbers that are known beside each example: files likewise, or columns of a table separated by commas",
                "names"),
            "split": SettingMeaning(
                "Percent of the examples that train, validate and test, where one file has all of them",
                "three numbers that sum to 100"),
            "layout": SettingMeaning(
                "What the axes of an array are; found out if empty", "vectors, hw, hwc, chw, video"),
            "window": SettingMeaning(
                "Steps of the windows that sounds and texts are cut into; 0 takes 4000 samples or 500 characters",
                "at least 0"),
            "missing": SettingMeaning("What is done about cells of a table that hold nothing", "refuse, marginalize"),
            "weightsColumn": SettingMeaning("The column of a table that holds the weight of each row", "a name"),
        ]
    }
}
