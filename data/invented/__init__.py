"""What the sample catalogue is drawn and written from: scenes, emblems, plots, an audience. None of it exists."""
