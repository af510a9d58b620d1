"""Files written and read without codecs: pictures, sound, video, 3D, from the standard library alone."""
