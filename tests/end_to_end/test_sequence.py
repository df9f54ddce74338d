def test_x(learn, tmp_path):
    learn(tmp_path / "a", "cll_clip", "en,de,ru")
def test_y(learn, tmp_path):
    learn(tmp_path / "a", "cll_clip_with_teir", "en,de,ru")
def test_z(english):
    english("cll_clip")
